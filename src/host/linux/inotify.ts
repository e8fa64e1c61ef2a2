import { closeSync, readSync } from "node:fs";
import { call, check, result } from "./libc.ts";

/** What the kernel tells of directories, by `inotify(7)`. */
const calls = {
  init: call("int inotify_init1(int flags)"),
  add: call("int inotify_add_watch(int fd, str path, uint32 mask)"),
  remove: call("int inotify_rm_watch(int fd, int wd)"),
};

const IN_NONBLOCK = 0o4000;
const IN_CLOEXEC = 0o2000000;
const HEAD_BYTES = 16;
const READ_BYTES = 65_536;

export const IN = {
  MODIFY: 0x2,
  ATTRIB: 0x4,
  MOVED_FROM: 0x40,
  MOVED_TO: 0x80,
  CREATE: 0x100,
  DELETE: 0x200,
  MOVE_SELF: 0x800,
  UNMOUNT: 0x2000,
  Q_OVERFLOW: 0x4000,
  IGNORED: 0x8000,
  ONLYDIR: 0x0100_0000,
  EXCL_UNLINK: 0x0400_0000,
  ISDIR: 0x4000_0000,
} as const;

export interface RawEvent {
  /** Which of those that are watched; -1 of an overflow. */
  wd: number;
  mask: number;
  /** The same of both halves of a rename. */
  cookie: number;
  /** Byte for byte, as latin1; empty of what is watched itself. */
  name: string;
}

/** One queue of events. Close it. */
export class Inotify {
  readonly fd = check("inotify_init1", result(calls.init(IN_NONBLOCK | IN_CLOEXEC)));
  readonly #buffer = Buffer.alloc(READ_BYTES);

  /** Watches what a descriptor is of; the same number again for what is watched already. Throws with `errno`. */
  add(fd: number, mask: number): number {
    return check("inotify_add_watch", result(calls.add(this.fd, `/proc/self/fd/${fd}`, mask)));
  }

  /** Nothing happens when it is watched no more. */
  remove(wd: number): void {
    calls.remove(this.fd, wd);
  }

  /** Some of what there is, without waiting; none when there is nothing. */
  read(): RawEvent[] {
    const length = this.#fill();
    const events: RawEvent[] = [];
    for (let at = 0; at < length;) {
      const nameBytes = this.#buffer.readUInt32LE(at + 12);
      const name = this.#buffer.toString("latin1", at + HEAD_BYTES, at + HEAD_BYTES + nameBytes);
      const end = name.indexOf("\0");
      events.push({
        wd: this.#buffer.readInt32LE(at),
        mask: this.#buffer.readUInt32LE(at + 4),
        cookie: this.#buffer.readUInt32LE(at + 8),
        name: end < 0 ? name : name.slice(0, end),
      });
      at += HEAD_BYTES + nameBytes;
    }
    return events;
  }

  close(): void {
    closeSync(this.fd);
  }

  #fill(): number {
    try {
      return readSync(this.fd, this.#buffer);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return 0;
      throw error;
    }
  }
}
