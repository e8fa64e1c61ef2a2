import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  lchownSync,
  lutimesSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import { VOLUME_CHUNK_BYTES } from "../../contract/volume-sync.ts";
import { isRoot } from "../linux/programs.ts";
import type { PresentEntry } from "./baseline.ts";
import { download, writeAt, writeAll, type Target } from "./download.ts";
import { chunkCount, chunkLength } from "./entries.ts";
import { SyncError } from "./client.ts";
import { readChunk } from "./file-chunks.ts";
import type { MountParts } from "./mount-parts.ts";
import { Slices } from "./slices.ts";

type FileEntry = Extract<PresentEntry, { type: "file" }>;
type SymlinkEntry = Extract<PresentEntry, { type: "symlink" }>;

/** One that is whole, and not yet where it belongs. */
export interface Draft {
  entry: FileEntry | SymlinkEntry;
  file: string;
}

/** How much is put together at once: files, and chunks that are to be had from elsewhere. */
const MAX_DRAFTS = 2000;
const MAX_WANTED = 4000;
const umask = process.umask();

/** Puts files together out of sight of the sandbox: from the cache, from what the mount has, and what is in neither from the volume. */
export class Drafts {
  readonly #mount: MountParts;
  readonly #slices = new Slices();
  #drafts: Draft[] = [];
  #wanted = new Map<string, (Target & { length: number })[]>();
  #count = 0;

  constructor(mount: MountParts) {
    this.#mount = mount;
    rmSync(mount.incoming, { recursive: true, force: true });
    mkdirSync(mount.incoming, { mode: 0o700 });
  }

  /** Hands them out, some at a time: until the next are asked for they are the caller's to take. */
  async *make(entries: readonly (FileEntry | SymlinkEntry)[]): AsyncGenerator<Draft[]> {
    for (const entry of entries) {
      if (this.#slices.isOver) await this.#slices.next();
      await this.#begin(entry);
      if (this.#drafts.length < MAX_DRAFTS && this.#wanted.size < MAX_WANTED) continue;
      yield await this.#complete();
    }
    yield await this.#complete();
  }

  async #begin(entry: FileEntry | SymlinkEntry): Promise<void> {
    // Its folder is this daemon's only, whatever its mode.
    const file = `${this.#mount.incoming}/${this.#count++}`;
    this.#drafts.push({ entry, file });
    if (entry.type === "symlink") return symlinkSync(entry.target, file);
    const { size, chunks, path } = entry;
    if (chunks.length !== chunkCount(size)) throw new SyncError(`the volume's ${path} is damaged`, 500);
    const fd = openSync(file, "wx", firstMode(entry.mode));
    let isWhole = true;
    try {
      for (const [index, hash] of chunks.entries()) {
        const offset = index * VOLUME_CHUNK_BYTES;
        const length = chunkLength(size, index);
        const bytes = this.#mount.cache.get(hash) ?? (await this.#fromBefore(entry, index, length));
        if (bytes?.length === length) writeAll(fd, bytes, offset);
        else {
          this.#want(hash, { file, offset, length });
          isWhole = false;
        }
        if (this.#slices.isOver) await this.#slices.next();
      }
      if (!isWhole) ftruncateSync(fd, size);
    } finally {
      closeSync(fd);
    }
  }

  /** Of a file that is changed, what stays as it was. */
  async #fromBefore({ path, chunks }: FileEntry, index: number, length: number): Promise<Buffer | undefined> {
    const before = this.#mount.baseline.get(path)?.entry;
    const hash = chunks[index]!;
    if (before?.type !== "file" || before.chunks[index] !== hash) return undefined;
    return readChunk(this.#mount.tree, path, index, length, hash).catch(() => undefined);
  }

  #want(hash: string, target: Target & { length: number }): void {
    const targets = this.#wanted.get(hash);
    if (targets) targets.push(target);
    else this.#wanted.set(hash, [target]);
  }

  async #complete(): Promise<Draft[]> {
    await this.#takeMoved();
    await download(this.#wanted, this.#mount);
    this.#wanted = new Map();
    const drafts = this.#drafts;
    this.#drafts = [];
    for (const draft of drafts) {
      if (this.#slices.isOver) await this.#slices.next();
      dress(draft);
    }
    return drafts;
  }

  /** What the mount has elsewhere: a file that was moved, or copied. */
  async #takeMoved(): Promise<void> {
    if (this.#wanted.size === 0) return;
    for (const [path, { entry }] of this.#mount.baseline.all()) {
      if (entry.type !== "file") continue;
      for (const [index, hash] of entry.chunks.entries()) {
        const targets = this.#wanted.get(hash);
        if (!targets) continue;
        const bytes = await readChunk(this.#mount.tree, path, index, targets[0]!.length, hash).catch(() => undefined);
        if (!bytes) continue;
        for (const { file, offset } of targets) {
          writeAt(file, bytes, offset);
        }
        this.#wanted.delete(hash);
      }
    }
  }
}

/** Gives it its owner, its mode and its time, in this order: one undoes what is behind it. */
function dress({ entry, file }: Draft): void {
  const { uid, gid, mode, mtime } = entry;
  const at = secondsOf(mtime);
  if (entry.type === "symlink") {
    if (isRoot) lchownSync(file, uid, gid);
    lutimesSync(file, at, at);
    return;
  }
  const isForeign = isRoot && (uid !== 0 || gid !== 0);
  if (isForeign) chownSync(file, uid, gid);
  if (isForeign || mode !== (firstMode(mode) & ~umask)) chmodSync(file, mode);
  utimesSync(file, at, at);
}

/** What it is made with: only root may go on to write to what nobody may write to. */
const firstMode = (mode: number): number => (isRoot ? mode & 0o777 : 0o600);

export const secondsOf = (mtime: string): number => Number(mtime) / 1e9;
