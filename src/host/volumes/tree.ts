import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  opendirSync,
  readlinkSync,
  type BigIntStats,
  type Dir,
} from "node:fs";
import { FOLLOW, O_PATH, OpenFailure, openBelow } from "../linux/confined.ts";

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
/** ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EXDEV: what can be there, there is none that is ours. */
const ABSENT = new Set([2, 20, 40, 36, 18]);

/**
 * What a sandbox sees of a mount, which it may change at any time. Paths are relative, and no link is ever followed on their way. What
 * is at a path is reached by the descriptor of the directory that it is in: `/proc/self/fd/N/name`.
 */
export class Tree {
  readonly #root: number;
  #parent: { path: string; fd: number } | undefined;

  constructor(folder: string) {
    this.#root = openSync(folder, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  }

  /** Where the path is, for calls that follow no link at their end; undefined where its directory is not there. */
  place(path: string): string | undefined {
    const at = path.lastIndexOf("/");
    const parent = at < 0 ? "" : path.slice(0, at);
    if (this.#parent?.path !== parent) {
      this.letGo();
      const fd = this.#open(parent || ".", O_PATH | O_DIRECTORY);
      if (fd === undefined) return undefined;
      this.#parent = { path: parent, fd };
    }
    return `/proc/self/fd/${this.#parent!.fd}/${path.slice(at + 1)}`;
  }

  /** The directory of the last place is not held any more. */
  letGo(): void {
    if (this.#parent) closeSync(this.#parent.fd);
    this.#parent = undefined;
  }

  stat(path: string): BigIntStats | undefined {
    const place = this.place(path);
    return place === undefined ? undefined : lstatAt(place);
  }

  /** A regular file, open for reading, with what it is; undefined where there is none (any more). The descriptor is the caller's. */
  openFile(path: string): { fd: number; stat: BigIntStats } | undefined {
    const fd = this.#open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (fd === undefined) return undefined;
    const stat = fstatSync(fd, { bigint: true });
    if (stat.isFile()) return { fd, stat };
    closeSync(fd);
    return undefined;
  }

  /** A directory; undefined where there is none (any more). The descriptor is the caller's. */
  openFolder(path: string): number | undefined {
    return this.#open(path || ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  }

  /** What a directory holds; undefined where there is none (any more). `place` of a name is good until it is closed. */
  openDirectory(path: string): { entries: Dir; place: (name: string) => string; close: () => void } | undefined {
    const fd = this.openFolder(path);
    if (fd === undefined) return undefined;
    const folder = `/proc/self/fd/${fd}`;
    try {
      const entries = opendirSync(folder, { bufferSize: 256 });
      const close = () => {
        entries.closeSync();
        closeSync(fd);
      };
      return { entries, place: (name) => `${folder}/${name}`, close };
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  close(): void {
    this.letGo();
    closeSync(this.#root);
  }

  #open(path: string, flags: number): number | undefined {
    try {
      return openBelow(this.#root, path, flags, FOLLOW.sameFilesystem);
    } catch (error) {
      if (error instanceof OpenFailure && ABSENT.has(error.errno)) return undefined;
      throw error;
    }
  }
}

/** Undefined where nothing is there. */
export function lstatAt(place: string): BigIntStats | undefined {
  return lstatSync(place, { bigint: true, throwIfNoEntry: false });
}

/** Where a link leads; undefined where none is there (any more), or it leads to what is no text. */
export function targetAt(place: string): string | undefined {
  try {
    const bytes = readlinkSync(place, "buffer");
    const target = bytes.toString("utf8");
    return Buffer.from(target).equals(bytes) ? target : undefined;
  } catch {
    return undefined;
  }
}
