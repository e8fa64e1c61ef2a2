import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  mkdirSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  type BigIntStats,
} from "node:fs";
import type { VolumeEntry } from "../../contract/volume-sync.ts";
import { isRoot } from "../linux/programs.ts";
import type { Known, Learned, PresentEntry } from "./baseline.ts";
import { Drafts, type Draft } from "./drafts.ts";
import { isSameEntry } from "./entries.ts";
import { readChunks } from "./file-chunks.ts";
import { inFolderOf } from "./in-folder.ts";
import type { MountParts } from "./mount-parts.ts";
import { Slices } from "./slices.ts";
import { isUnsure, stampOf, stampOfRead } from "./stamp.ts";
import { lstatAt, targetAt } from "./tree.ts";

type DirectoryEntry = Extract<PresentEntry, { type: "directory" }>;

/**
 * Brings what others have committed into a mount that the sandbox may be using: each file at once, by a rename. Where the sandbox has
 * changed something since it was last known, its own stays, and is what is committed next.
 */
export class Apply {
  readonly #mount: MountParts;
  readonly #isFresh: boolean;
  readonly #learned: Learned[] = [];
  readonly #slices = new Slices();
  #changedFiles = 0;

  /** `isFresh`: no sandbox has seen the mount yet. */
  constructor(mount: MountParts, isFresh: boolean) {
    this.#mount = mount;
    this.#isFresh = isFresh;
  }

  /** `changes` by path, relative to the mount. What was learned is the caller's to keep. */
  async run(changes: ReadonlyMap<string, VolumeEntry>): Promise<{ changedFiles: number; learned: Learned[] }> {
    const entries = [...changes.values()].filter((entry) => this.#isNews(entry));
    const byPath = (a: VolumeEntry, b: VolumeEntry) => (a.path < b.path ? -1 : 1);
    const removed = entries.filter((entry) => entry.type === "removed").toSorted(byPath);
    const directories = entries.filter((entry) => entry.type === "directory").toSorted(byPath);
    const others = entries.filter((entry) => entry.type === "file" || entry.type === "symlink").toSorted(byPath);
    for (const { path } of removed.toReversed()) await this.#each(() => this.#remove(path));
    const made: DirectoryEntry[] = [];
    for (const entry of directories) {
      await this.#each(async () => {
        if (await this.#makeDirectory(entry.path)) made.push(entry);
      });
    }
    if (others.length > 0) {
      for await (const drafts of new Drafts(this.#mount).make(others)) {
        for (const draft of drafts) await this.#each(() => this.#put(draft));
      }
    }
    for (const entry of made.toReversed()) await this.#each(() => this.#dress(entry));
    this.#mount.tree.letGo();
    return { changedFiles: this.#changedFiles, learned: this.#learned };
  }

  async #each(work: () => Promise<void> | void): Promise<void> {
    if (this.#slices.isOver) await this.#slices.next();
    await work();
  }

  /** False of what was committed from here. */
  #isNews(entry: VolumeEntry): boolean {
    const known = this.#mount.baseline.get(entry.path);
    if (!known) return entry.type !== "removed";
    return !isSameEntry(known.entry, entry);
  }

  async #remove(path: string): Promise<void> {
    const place = this.#mount.tree.place(path);
    const stat = place === undefined ? undefined : lstatAt(place);
    if (place !== undefined && stat) {
      const isOurs = (await this.#isAsKnown(path, stat)) && isRemoved(place, stat.isDirectory());
      if (!isOurs) return void this.#forget(path);
    }
    this.#learn(path, undefined);
  }

  /** Open to this daemon only, until everything is in it. */
  async #makeDirectory(path: string): Promise<boolean> {
    const place = this.#placeIn(path);
    if (place === undefined) return false;
    const stat = lstatAt(place);
    const known = this.#mount.baseline.get(path);
    if (stat?.isDirectory()) return !known || known.stamp === stampOf(stat) || this.#forget(path);
    if (!(await this.#makeWay(path, place, stat))) return false;
    return isDone(place, () => mkdirSync(place, { mode: 0o700 })) || this.#forget(path);
  }

  #dress(entry: DirectoryEntry): void {
    const { path, mode, uid, gid } = entry;
    const fd = this.#mount.tree.openFolder(path);
    if (fd === undefined) return;
    try {
      if (isRoot) fchownSync(fd, uid, gid);
      fchmodSync(fd, mode);
      this.#learn(path, { entry, stamp: stampOf(fstatSync(fd, { bigint: true })) });
    } finally {
      closeSync(fd);
    }
  }

  async #put({ entry, file }: Draft): Promise<void> {
    const { path } = entry;
    const place = this.#placeIn(path);
    if (place === undefined) return;
    const stat = this.#isFresh ? undefined : lstatAt(place);
    if (!(await this.#makeWay(path, place, stat, { keepsFile: true }))) return;
    if (!isDone(place, () => renameSync(file, place))) return void this.#forget(path);
    const now = lstatAt(place);
    if (now) this.#learn(path, { entry, stamp: this.#isFresh ? stampOf(now) : stampOfRead(now, Date.now()) });
  }

  /** Where it goes, with the directories above it; undefined where something of the sandbox's own is in the way. */
  #placeIn(path: string): string | undefined {
    const { tree } = this.#mount;
    const place = tree.place(path);
    if (place !== undefined) return place;
    for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
      const parent = tree.place(path.slice(0, at));
      if (parent === undefined) return undefined;
      // Where the sandbox has made it just now, that one serves.
      if (!lstatAt(parent)) isDone(parent, () => mkdirSync(parent, { mode: 0o755 }));
    }
    return tree.place(path);
  }

  /** Takes away what is there, where that is as it is known. A file is replaced by the file that comes. */
  async #makeWay(path: string, place: string, stat: BigIntStats | undefined, { keepsFile = false } = {}) {
    const known = this.#mount.baseline.get(path);
    // Removed here since: so it stays.
    if (!stat) return known === undefined || this.#isFresh;
    if (!(await this.#isAsKnown(path, stat))) return this.#forget(path);
    if (stat.isDirectory()) return isRemoved(place, true) || this.#forget(path);
    if (!keepsFile) isRemoved(place, false);
    return true;
  }

  async #isAsKnown(path: string, stat: BigIntStats): Promise<boolean> {
    const known = this.#mount.baseline.get(path);
    if (!known) return false;
    if (known.stamp === stampOf(stat)) return true;
    return isUnsure(known.stamp) && this.#hasContentOf(path, known);
  }

  async #hasContentOf(path: string, { entry }: Known): Promise<boolean> {
    const { tree } = this.#mount;
    if (entry.type === "symlink") {
      const place = tree.place(path);
      return place !== undefined && targetAt(place) === entry.target;
    }
    if (entry.type !== "file") return false;
    const read = await readChunks(tree, path, () => {});
    return (
      read !== undefined &&
      !read.isTorn &&
      read.size === entry.size &&
      read.chunks.every((hash, i) => hash === entry.chunks[i])
    );
  }

  #learn(path: string, known: Known | undefined): void {
    this.#changedFiles++;
    this.#learned.push({ path, known });
  }

  /** What is there is the sandbox's own, and new to the volume. */
  #forget(path: string): false {
    this.#learned.push({ path, known: undefined });
    return false;
  }
}

/** False of a directory that holds something, and of what has become something else meanwhile. */
function isRemoved(place: string, isDirectory: boolean): boolean {
  return isDone(place, () => (isDirectory ? rmdirSync(place) : unlinkSync(place))) || !lstatAt(place);
}

/** What the kernel says where the sandbox has put something there in this moment, or has taken away what it was to be in. */
const OVERTAKEN = new Set(["EEXIST", "EISDIR", "ENOENT", "ENOTDIR", "ENOTEMPTY"]);

/** False where the sandbox was faster. */
function isDone(place: string, change: () => void): boolean {
  try {
    inFolderOf(place, change);
    return true;
  } catch (error) {
    if (OVERTAKEN.has((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}
