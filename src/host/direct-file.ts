import { closeSync, constants, fstatSync, openSync, writev } from "node:fs";
import { promisify } from "node:util";
import { ApiError } from "../contract/errors.ts";
import { FOLLOW, isOnDisk, O_PATH, openBelow } from "./linux/confined.ts";
import { EDQUOT, ENOSPC } from "./linux/libc.ts";
import type { Container } from "./runtime.ts";
import { tooSlow, withTimeLimit } from "./time-limit.ts";

/** A write may wait long for a disk, on one of the few threads that all of this daemon's files share: some are left to others. */
const WRITES_AT_ONCE = 2;
/** How long a write may take. A snapshot may hold it up meanwhile. */
const STALL_MS = 60_000;

const writeParts = promisify(writev);
let writes = 0;
const waiting: (() => void)[] = [];

/**
 * A new and empty file of a container that is written from this machine, without a process inside that all of it has to pass. Nothing
 * but such a file is ever opened, whatever the sandbox puts in its place: one on a disk, so that what is written is neither a call to
 * a driver nor memory that would count as this daemon's.
 */
export class DirectFile {
  readonly #container: Container;
  readonly #fd: number;
  #writing: Promise<void> = Promise.resolve();
  #isClosed = false;

  private constructor(container: Container, fd: number) {
    this.#container = container;
    this.#fd = fd;
  }

  /** Undefined where this machine may not do so, or the path is no such file. */
  static open(container: Container, path: Buffer): DirectFile | undefined {
    const fds: number[] = [];
    try {
      const root = container.seesEveryFile?.() ? container.openRoot?.() : undefined;
      if (root === undefined) return undefined;
      fds.push(root);
      // Seen first: already the opening of a device, or of a FIFO, does something.
      const seen = openBelow(root, path, O_PATH | constants.O_NOFOLLOW, FOLLOW.likeRoot);
      fds.push(seen);
      const stats = fstatSync(seen);
      if (!stats.isFile() || stats.nlink !== 1 || stats.size !== 0 || !isOnDisk(seen)) return undefined;
      // A lease of somebody inside would make it wait.
      const flags = constants.O_WRONLY | constants.O_NONBLOCK;
      return new DirectFile(container, openSync(`/proc/self/fd/${seen}`, flags));
    } catch {
      // A process inside will say what is wrong.
      return undefined;
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }

  /**
   * Begins to write the parts once the ones before are written. They are this file's from then on, and empty once they are written.
   * Throws what the scripts say, `disk_full` or `permission_denied`, also of those before.
   */
  async write(parts: Uint8Array[]): Promise<void> {
    await this.written();
    this.#writing = this.#write(parts);
    this.#writing.catch(() => {});
  }

  /** Resolves once all is written. */
  written(): Promise<void> {
    return withTimeLimit(this.#writing, STALL_MS, tooSlow("Writing the file"));
  }

  /** Nothing more is written. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const close = () => closeSync(this.#fd);
    // The number must not be another file's while a write may still use it. What a disk says of it last is nobody's to hear.
    this.#writing.then(close, close).catch(() => {});
  }

  async #write(parts: Uint8Array[]): Promise<void> {
    for (let left = parts; left.length > 0;) {
      const change = async () => {
        // Whoever closed it knows better what became of it.
        return this.#isClosed ? Infinity : (await writeParts(this.#fd, left)).bytesWritten;
      };
      const turn = () => inTurn(change);
      const changing = this.#container.change ? this.#container.change(turn) : turn();
      left = behind(left, await changing.catch((error: unknown) => Promise.reject(fileError(error))));
    }
    for (const part of parts) release(part);
  }
}

/** Does it once fewer than so many writes are under way. */
async function inTurn<T>(write: () => Promise<T>): Promise<T> {
  if (writes >= WRITES_AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  else writes += 1;
  try {
    return await write();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else writes -= 1;
  }
}

/** Gives the memory back at once. Left to the garbage collector it has the whole heap looked through for every few MiB that came. */
function release(part: Uint8Array): void {
  const { buffer } = part;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === part.byteLength) buffer.transfer(0);
}

/** What is left of the parts behind so many bytes. */
function behind(parts: Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes;
  const first = parts.findIndex((part) => {
    if (left < part.length) return true;
    left -= part.length;
    return false;
  });
  return first < 0 ? [] : [parts[first]!.subarray(left), ...parts.slice(first + 1)];
}

function fileError(error: unknown): unknown {
  const { errno } = error as NodeJS.ErrnoException;
  if (errno === undefined) return error;
  return new ApiError(errno === -ENOSPC || errno === -EDQUOT ? "disk_full" : "permission_denied", { cause: error });
}
