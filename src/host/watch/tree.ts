import { closeSync, constants, fstatSync, readdirSync, statfsSync } from "node:fs";
import { ApiError, hasCode } from "../../contract/errors.ts";
import { FOLLOW, O_PATH, openBelow, OpenFailure } from "../linux/confined.ts";
import { IN, type Inotify } from "../linux/inotify.ts";
import { ENOSPC } from "../linux/libc.ts";

export const MAX_DIRECTORIES = 10_000;
/** What happens in a directory that is watched. Closing is none: who opens a file to write, and does not, has changed nothing. */
export const DIRECTORY_MASK =
  IN.MODIFY | IN.ATTRIB | IN.MOVED_FROM | IN.MOVED_TO | IN.CREATE | IN.DELETE | IN.ONLYDIR | IN.EXCL_UNLINK;
/** proc, sysfs, both kinds of cgroup, devpts: they tell of nothing, and the first of them has no end. */
const SILENT_FILESYSTEMS = new Set([0x9fa0, 0x62656572, 0x27e0eb, 0x63677270, 0x1cd1]);
const EACCES = 13;
const EXDEV = 18;

/** A directory below what is watched. Names are latin1, byte for byte. */
export class Directory {
  parent: Directory | undefined;
  name: string;
  readonly children = new Map<string, Directory>();
  /** Undefined of one that could not be opened, as yet. */
  wd: number | undefined;
  /** What a look into it found there, and so was told; what tells of the same up to this event is no news. */
  seen: { names: Set<string>; until: number } | undefined;

  constructor(parent: Directory | undefined, name: string) {
    this.parent = parent;
    this.name = name;
  }

  /** Relative to the top, of which it is empty. */
  get path(): string {
    if (!this.parent) return "";
    const above = this.parent.path;
    return above === "" ? this.name : `${above}/${this.name}`;
  }
}

/** What is known of a directory is no longer so: everything must be looked at anew. */
export class LostTrack extends Error {
  override readonly name = "LostTrack";
}

/** The directories that are watched, by name and by number. */
export class DirectoryTree {
  readonly top = new Directory(undefined, "");
  readonly #byWd = new Map<number, Directory>();
  readonly #unopened = new Set<Directory>();
  readonly #root: number;
  readonly #topPath: string;
  readonly #inotify: Inotify;

  /** `topPath`: relative to `root`, without links. */
  constructor(root: number, topPath: string, inotify: Inotify) {
    this.#root = root;
    this.#topPath = topPath;
    this.#inotify = inotify;
  }

  find(wd: number): Directory | undefined {
    return this.#byWd.get(wd);
  }

  /**
   * Watches a directory; answers what is in it, or undefined where it was watched already or cannot be. Whatever comes into it from
   * before the answer on, the kernel tells of.
   */
  watch(directory: Directory): { name: string; isDirectory: boolean }[] | undefined {
    const fd = this.#open(directory);
    if (fd === undefined) return undefined;
    try {
      return this.#watch(directory, fd);
    } catch (error) {
      // A daemon that is not root may not look everywhere.
      if (directory.parent && hasCode(error, "permission_denied")) return undefined;
      throw error;
    } finally {
      closeSync(fd);
    }
  }

  /** The child of this name; made where there is none. */
  child(parent: Directory, name: string): Directory {
    let child = parent.children.get(name);
    if (child) return child;
    if (this.#byWd.size + this.#unopened.size >= MAX_DIRECTORIES) {
      throw new ApiError("payload_too_large", { detail: `A watch takes at most ${MAX_DIRECTORIES} directories.` });
    }
    child = new Directory(parent, name);
    parent.children.set(name, child);
    this.#unopened.add(child);
    return child;
  }

  /** The directory has another name now. */
  move(directory: Directory, parent: Directory, name: string): void {
    directory.parent?.children.delete(directory.name);
    const replaced = parent.children.get(name);
    if (replaced) this.drop(replaced);
    directory.parent = parent;
    directory.name = name;
    parent.children.set(name, directory);
  }

  /** Those that could not be opened: under another name perhaps they can. */
  unopened(): Directory[] {
    return [...this.#unopened];
  }

  /** Watches it and all below it no more. */
  drop(directory: Directory): void {
    directory.parent?.children.delete(directory.name);
    const left = [directory];
    for (let next = left.pop(); next; next = left.pop()) {
      left.push(...next.children.values());
      this.#unopened.delete(next);
      if (next.wd === undefined) continue;
      this.#byWd.delete(next.wd);
      this.#inotify.remove(next.wd);
    }
  }

  #watch(directory: Directory, fd: number): { name: string; isDirectory: boolean }[] | undefined {
    const wd = watchDirectory(this.#inotify, fd, DIRECTORY_MASK);
    const known = this.#byWd.get(wd);
    if (known === directory) return undefined;
    if (known) {
      if (this.#isAt(known, fd)) return undefined; // Mounted twice: its first name is told.
      throw new LostTrack();
    }
    if (directory.wd !== undefined) {
      this.#byWd.delete(directory.wd);
      this.#inotify.remove(directory.wd);
      for (const child of directory.children.values()) this.drop(child);
    }
    directory.wd = wd;
    this.#byWd.set(wd, directory);
    this.#unopened.delete(directory);
    const found = readdirSync(`/proc/self/fd/${fd}`, { withFileTypes: true, encoding: "latin1" });
    return found.map((entry) => ({ name: entry.name, isDirectory: entry.isDirectory() }));
  }

  #isAt(directory: Directory, fd: number): boolean {
    const other = this.#open(directory);
    if (other === undefined) return false;
    const [one, two] = [fstatSync(fd), fstatSync(other)];
    closeSync(other);
    return one.dev === two.dev && one.ino === two.ino;
  }

  #open(directory: Directory): number | undefined {
    const path = directory.path === "" ? this.#topPath || "." : `${this.#topPath}/${directory.path}`.replace(/^\//, "");
    const open = (follow: number) =>
      openBelow(this.#root, Buffer.from(path, "latin1"), O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW, follow);
    try {
      return open(FOLLOW.sameFilesystem);
    } catch (error) {
      if (!(error instanceof OpenFailure) || "code" in error) throw error;
      if (error.errno !== EXDEV) return undefined;
    }
    try {
      const fd = open(FOLLOW.noLinks);
      if (!isSilent(fd)) return fd;
      closeSync(fd);
    } catch (error) {
      if (!(error instanceof OpenFailure) || "code" in error) throw error;
    }
    return undefined;
  }
}

/** Throws `at_capacity` where this machine watches as many as it may. */
export function watchDirectory(inotify: Inotify, fd: number, mask: number): number {
  try {
    return inotify.add(fd, mask);
  } catch (error) {
    const { errno } = error as { errno?: number };
    if (errno === EACCES) throw new ApiError("permission_denied", { cause: error });
    if (errno !== ENOSPC) throw error;
    throw new ApiError("at_capacity", {
      detail: "The host watches as many directories as it may (fs.inotify.max_user_watches).",
      retryAfter: 10,
    });
  }
}

function isSilent(fd: number): boolean {
  return SILENT_FILESYSTEMS.has(statfsSync(`/proc/self/fd/${fd}`).type);
}
