import { randomBytes } from "node:crypto";
import { MAX_CHUNKS_A_FILE, type VolumeEntry } from "../../contract/volume-sync.ts";
import { isExhausted, OpenFailure } from "../linux/confined.ts";
import type { Known, Learned, PresentEntry } from "./baseline.ts";
import { SyncError } from "./client.ts";
import { CommitParts } from "./commit-parts.ts";
import { attributesOf, chunkCount, isSameEntry } from "./entries.ts";
import { readChunk, readChunks, type FileRead } from "./file-chunks.ts";
import type { MountParts } from "./mount-parts.ts";
import { ChunkChanged, PackUpload } from "./pack-upload.ts";
import { dropPending, keepPending, type Pending } from "./pending.ts";
import { scan, type Changed, type Scan } from "./scan.ts";
import { Slices } from "./slices.ts";
import { stampOfRead } from "./stamp.ts";
import { lstatAt, targetAt } from "./tree.ts";

/** Of a path in the volume: what the kernel takes. */
const MAX_PATH_BYTES = 4095;
/** How often a file that changes while it is read is read. */
const READS = 3;

/** What could not be made durable, and why. */
export interface Left {
  files: number;
  bytes: number;
  why: string;
}

export interface CommitOutcome {
  changedFiles: number;
  left: Left | undefined;
  /** What no volume can keep. */
  unkept: string[];
  scanMs: number;
}

/** What a commit was about when it failed. */
export class CommitFailure extends Error {
  override readonly name = "CommitFailure";
  readonly left: Left;

  constructor(left: Left, cause: unknown) {
    super(left.why, { cause });
    this.left = left;
  }
}

/**
 * Stores what has changed in a mount. `isPatient`: a file that is written all the time is taken as it is read, too; else it is left
 * for the next commit. What is left of a commit that was cut off is finished first. Throws {@link CommitFailure}.
 */
export async function commit(mount: MountParts, { isPatient }: { isPatient: boolean }): Promise<CommitOutcome> {
  const before = mount.pending ? await finishBefore(mount) : 0;
  for (let attempt = 1; ; attempt++) {
    try {
      const outcome = await commitOnce(mount, isPatient);
      return { ...outcome, changedFiles: before + outcome.changedFiles };
    } catch (error) {
      if (!(error instanceof CommitFailure) || !isOutdated(error.cause) || attempt === READS) throw error;
    }
  }
}

async function commitOnce(mount: MountParts, isPatient: boolean): Promise<CommitOutcome> {
  const found = await scan(mount.tree, mount.baseline, MAX_PATH_BYTES - Buffer.byteLength(mount.inVolume("")));
  const outcome = { unkept: found.unkept, scanMs: found.durationMs, left: leftUnread(found) };
  if (found.changed.length + found.removed.length === 0) return { ...outcome, changedFiles: 0 };
  try {
    const { changedFiles, left } = await new Commit(mount, isPatient).run(found);
    return { ...outcome, changedFiles, left: left ?? outcome.left };
  } catch (error) {
    throw failureOf(error, found.changed, found.removed.length);
  }
}

async function finishBefore(mount: MountParts): Promise<number> {
  const { learned, changedFiles } = mount.pending!;
  try {
    return await finish(mount);
  } catch (error) {
    // There is nothing pending any more: all of it is found again.
    if (isOutdated(error)) return 0;
    const sizes = learned.map(({ known }) => ({ size: known?.entry.type === "file" ? known.entry.size : 0 }));
    throw failureOf(error, sizes, changedFiles - sizes.length);
  }
}

/** Says that all parts are there. Of one that can never be done nothing is left: what it was about is found again. */
async function finish(mount: MountParts): Promise<number> {
  const { baseline, client, pendingPath } = mount;
  const { commitId, parts, learned, changedFiles } = mount.pending!;
  try {
    const version = await client.commit(commitId, parts);
    // With nobody else's in between, all of the volume is known.
    await baseline.learn(learned, { version, base: version === baseline.base + 1 ? version : baseline.base });
  } catch (error) {
    if (error instanceof SyncError && error.isPassing) throw error;
    forget(mount);
    throw error;
  }
  forget(mount);
  return changedFiles;

  function forget(of: MountParts): void {
    of.pending = undefined;
    dropPending(pendingPath);
  }
}

class Commit {
  readonly #mount: MountParts;
  readonly #isPatient: boolean;
  readonly #id = randomBytes(16).toString("hex");
  readonly #parts: CommitParts;
  readonly #upload: PackUpload;
  readonly #learned: Learned[] = [];
  #changedFiles = 0;
  #left: Left | undefined;

  constructor(mount: MountParts, isPatient: boolean) {
    this.#mount = mount;
    this.#isPatient = isPatient;
    this.#parts = new CommitParts(mount.client, this.#id);
    this.#upload = new PackUpload(mount.client, mount.cache, (places) => this.#parts.addPlaces(places));
  }

  async run({ changed, removed }: Scan): Promise<{ changedFiles: number; left: Left | undefined }> {
    const slices = new Slices();
    for (const path of removed) await this.#take({ type: "removed", path }, undefined);
    for (const one of changed) {
      if (slices.isOver) await slices.next();
      const known = this.#mount.baseline.get(one.path);
      const now = await this.#read(one, known);
      if (!now) continue;
      if (known && isSameEntry(known.entry, now.entry)) this.#learned.push({ path: one.path, known: now });
      else await this.#take(now.entry, now.stamp);
    }
    this.#mount.tree.letGo();
    if (this.#changedFiles > 0) await this.#store();
    else await this.#mount.baseline.learn(this.#learned);
    return { changedFiles: this.#changedFiles, left: this.#left };
  }

  async #store(): Promise<void> {
    await this.#upload.finish();
    await this.#parts.flush();
    const changedFiles = this.#changedFiles;
    const pending: Pending = { commitId: this.#id, parts: this.#parts.count, changedFiles, learned: this.#learned };
    await keepPending(this.#mount.pendingPath, pending);
    this.#mount.pending = pending;
    await finish(this.#mount);
  }

  async #take(entry: VolumeEntry, stamp: string | undefined): Promise<void> {
    this.#changedFiles++;
    const known = entry.type === "removed" ? undefined : { entry, stamp: stamp! };
    this.#learned.push({ path: entry.path, known });
    await this.#parts.add({ ...entry, path: this.#mount.inVolume(entry.path) });
  }

  /** What is there now; undefined where there is nothing any more, or it is left for later. */
  async #read(one: Changed, known: Known | undefined): Promise<Known | undefined> {
    const { path } = one;
    if (one.type === "file") return this.#readFile(one, known);
    const lookedAt = Date.now();
    const place = this.#mount.tree.place(path);
    const stat = place === undefined ? undefined : lstatAt(place);
    if (place === undefined || !stat) return undefined;
    const base = { path, ...attributesOf(stat, known) };
    if (one.type === "directory" && stat.isDirectory())
      return { entry: { ...base, type: "directory" }, stamp: stampOfRead(stat, lookedAt) };
    if (one.type !== "symlink" || !stat.isSymbolicLink()) return undefined;
    const target = targetAt(place);
    return target === undefined
      ? undefined
      : { entry: { ...base, type: "symlink", target }, stamp: stampOfRead(stat, lookedAt) };
  }

  async #readFile({ path, size }: Changed, known: Known | undefined): Promise<Known | undefined> {
    if (chunkCount(size) > MAX_CHUNKS_A_FILE) return this.#leave(size, `${path} is larger than a volume can keep`);
    for (let attempt = 1; ; attempt++) {
      let read: FileRead | undefined;
      try {
        read = await readChunks(this.#mount.tree, path, (hash, bytes, index) =>
          this.#offer(path, known?.entry, hash, bytes, index),
        );
      } catch (error) {
        if (!isOfReading(error) || isExhausted(error)) throw error;
        return this.#leave(size, `${path} cannot be read: ${(error as Error).message}`);
      }
      if (!read) return undefined;
      if (read.isTorn && attempt < READS) continue;
      if (read.isTorn && !this.#isPatient) return this.#leave(size, `${path} changes all the time`);
      const { stat, chunks, lookedAt } = read;
      const entry: PresentEntry = { path, type: "file", ...attributesOf(stat, known), size: read.size, chunks };
      return { entry, stamp: stampOfRead(stat, lookedAt) };
    }
  }

  #offer(path: string, known: PresentEntry | undefined, hash: string, bytes: Buffer, index: number): Promise<void> {
    const { length } = bytes;
    const isKnown = known?.type === "file" && known.chunks[index] === hash;
    const reread = () => readChunk(this.#mount.tree, path, index, length, hash);
    return this.#upload.offer(isKnown ? { hash, length, reread } : { hash, length, bytes, reread });
  }

  #leave(bytes: number, why: string): undefined {
    const before = this.#left ?? { files: 0, bytes: 0, why };
    this.#left = { ...before, files: before.files + 1, bytes: before.bytes + bytes };
  }
}

/** What was read, or asked, is not so any more: such as a chunk that the volume had, and has forgotten since. */
const isOutdated = (error: unknown) =>
  error instanceof ChunkChanged || (error instanceof SyncError && error.status === 409);

/** Not of sending it. */
const isOfReading = (error: unknown) =>
  error instanceof OpenFailure || (error as NodeJS.ErrnoException).syscall !== undefined;

function leftUnread({ unread }: Scan): Left | undefined {
  if (unread.length === 0) return undefined;
  return { files: unread.length, bytes: 0, why: `${unread[0] || "the mount"} cannot be looked into` };
}

function failureOf(error: unknown, changed: readonly { size: number }[], more: number): CommitFailure {
  const bytes = changed.reduce((sum, { size }) => sum + size, 0);
  const why = error instanceof Error ? error.message : String(error);
  return new CommitFailure({ files: changed.length + more, bytes, why }, error);
}
