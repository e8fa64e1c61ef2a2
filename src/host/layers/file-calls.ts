import { call, check, looked, result, type Result } from "../linux/libc.ts";
import { cString } from "../linux/xattr.ts";

/** What a copy of a file needs to be exact and Node has no calls for. No call follows a link in the last component. */
const calls = {
  fchdir: call("int fchdir(int fd)"),
  link: call("int linkat(int fromFd, const void *from, int toFd, const void *to, int flags)"),
  mkfifo: call("int mkfifo(const void *path, uint mode)"),
  mknod: call("int mknod(const void *path, uint mode, uint64 device)"),
  // What the C library has under the name of mknod before glibc 2.33.
  oldMknod: call("int __xmknod(int version, const void *path, uint mode, const void *device)"),
  seek: call("int64 lseek(int fd, int64 offset, int whence)"),
  setTimes: call("int utimensat(int fd, const void *path, const void *times, int flags)"),
};

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const UTIME_OMIT = (1n << 30n) - 2n;
const NS = 1_000_000_000n;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;
const CHARACTER_DEVICE = 0o020000;

/** Makes an open directory the process's own; all relative paths start there. */
export function changeDirectory(fd: number): void {
  check("fchdir", result(calls.fchdir(fd)));
}

/** Another name, in the current directory, for `from` in the directory `fromFd`. */
export function linkFrom(fromFd: number, from: Buffer, to: Buffer): void {
  check("linkat", result(calls.link(fromFd, cString(from), AT_FDCWD, cString(to), 0)));
}

export function makeFifo(path: Buffer): void {
  check("mkfifo", result(calls.mkfifo(cString(path), 0o600)));
}

/** The overlay's mark for "deleted": a character device 0:0, the one device that needs no privilege. */
export function makeWhiteout(path: Buffer): void {
  let made: Result;
  try {
    made = result(calls.mknod(cString(path), CHARACTER_DEVICE, 0));
  } catch {
    made = result(calls.oldMknod(0, cString(path), CHARACTER_DEVICE, Buffer.alloc(8)));
  }
  check("mknod", made);
}

export function setModifiedTime(path: Buffer, ns: bigint): void {
  const seconds = ns >= 0n ? ns / NS : -((-ns + NS - 1n) / NS);
  const times = Buffer.alloc(32);
  times.writeBigInt64LE(UTIME_OMIT, 8);
  times.writeBigInt64LE(seconds, 16);
  times.writeBigInt64LE(ns - seconds * NS, 24);
  check("utimensat", result(calls.setTimes(AT_FDCWD, cString(path), times, AT_SYMLINK_NOFOLLOW)));
}

export interface Segment {
  offset: number;
  length: number;
}

/** Where a file of `size` bytes has data; the rest are holes. */
export function dataSegments(fd: number, size: number): Segment[] {
  const segments: Segment[] = [];
  for (let at = 0; at < size;) {
    const data = looked(() => calls.seek(fd, at, SEEK_DATA));
    if (data.errno === ENXIO) break;
    const offset = check("lseek", data);
    if (offset >= size) break;
    const end = Math.min(
      size,
      check(
        "lseek",
        looked(() => calls.seek(fd, offset, SEEK_HOLE)),
      ),
    );
    segments.push({ offset, length: end - offset });
    at = end;
  }
  return segments;
}
