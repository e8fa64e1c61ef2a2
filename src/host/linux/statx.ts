import { call, check, looked } from "./libc.ts";

/** What the kernel says of a file. */
export interface Status {
  mode: number;
  uid: number;
  gid: number;
  size: bigint;
  /** When it was changed last, since 1970. */
  seconds: bigint;
  nanoseconds: number;
}

const calls = {
  statx: call("int statx(int directory, const void *name, int flags, uint mask, _Out_ void *info)"),
};

/** `struct statx` is the same on every machine. */
const INFO_BYTES = 256;
const STATX_BASIC_STATS = 0x7ff;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_NO_AUTOMOUNT = 0x800;
const AT_EMPTY_PATH = 0x1000;
const FLAGS = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH;
const ENOENT = 2;
/** Read before anything else is looked at. */
const info = Buffer.alloc(INFO_BYTES);

/**
 * What is in a directory that is open by this name, a link itself; by an empty name the file that is open. Undefined when it is gone. Node's
 * own `lstat` takes three times as long, since the way to an open directory leads through /proc.
 */
export function statusAt(fd: number, name: Buffer): Status | undefined {
  const path = Buffer.concat([name, Buffer.alloc(1)]);
  const found = looked(() => calls.statx(fd, path, FLAGS, STATX_BASIC_STATS, info));
  if (found.errno === ENOENT) return undefined;
  check("statx", found);
  return {
    mode: info.readUInt16LE(28),
    uid: info.readUInt32LE(20),
    gid: info.readUInt32LE(24),
    size: info.readBigUInt64LE(40),
    seconds: info.readBigInt64LE(112),
    nanoseconds: info.readUInt32LE(120),
  };
}
