import { closeSync, constants, openSync } from "node:fs";
import { ApiError, type ErrorCode } from "../../contract/errors.ts";
import { call, check, EAGAIN, EINTR, result } from "./libc.ts";

/**
 * Opens what a sandbox has, by names that it may change meanwhile. The kernel itself keeps every step of the way below a
 * directory: no link, no `..` and no race leads out of it.
 */
const calls = {
  // The number of openat2 is the same on every machine.
  fstatfs: call("int fstatfs(int fd, _Out_ void *info)"),
  readlinkat: call("int64 readlinkat(int dir, const void *path, _Out_ void *target, size_t size)"),
  openat2: call("int64 syscall(int64 number, int64 dir, const void *path, const void *how, size_t size)"),
};

const OPENAT2 = 437;
const HOW_BYTES = 24;
const STATFS_BYTES = 256;
const PROC_MAGIC = 0x9fa0;
/** The filesystems that keep files on a disk of this machine: ext2 to ext4, XFS, Btrfs, ZFS, F2FS, bcachefs, overlays. */
const DISK_MAGICS = new Set([0xef53, 0x58465342, 0x9123683e, 0x2fc12fc1, 0xf2f52010, 0xca451a4e, 0x794c7630]);
const MAX_TARGET_BYTES = 4096;
/** Node has no names for these. */
export const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
/** How often it is tried again when the sandbox renames what is on the way. */
const ATTEMPTS = 1000;

const RESOLVE_NO_XDEV = 0x01;
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;
const RESOLVE_IN_ROOT = 0x10;

/** How names are followed below the directory that they begin at. */
export const FOLLOW = {
  /** As a process does whose root the directory is: links are followed, absolute ones from there. */
  likeRoot: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
  /** No link at all is followed, and nothing leads up. */
  noLinks: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  /** Nor does anything lead into another filesystem: `EXDEV`. */
  sameFilesystem: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
} as const;

const CODES: Record<number, ErrorCode> = {
  [1]: "permission_denied", // EPERM
  [2]: "file_not_found", // ENOENT
  [13]: "permission_denied", // EACCES
  [20]: "not_a_directory", // ENOTDIR
  [21]: "is_a_directory", // EISDIR
  [28]: "disk_full", // ENOSPC
  [36]: "file_not_found", // ENAMETOOLONG
  [40]: "file_not_found", // ELOOP
};
const EMFILE = 24;
const ENFILE = 23;
const ENOMEM = 12;
/** What the machine, or this daemon, has none of at the moment. */
const EXHAUSTED: Record<number, string> = { [EMFILE]: "EMFILE", [ENFILE]: "ENFILE", [ENOMEM]: "ENOMEM" };
const EXHAUSTED_CODES = new Set(Object.values(EXHAUSTED));
const ENOSYS = 38;

/** What could not be opened, with the error number. */
export class OpenFailure extends Error {
  override readonly name = "OpenFailure";
  readonly errno: number;

  constructor(errno: number) {
    super(`openat2 failed with error ${errno}`);
    this.errno = errno;
    const code = EXHAUSTED[errno];
    if (code !== undefined) Object.assign(this, { code });
  }
}

/** Whether it says nothing of what was to be opened: the machine could open nothing at all. */
export const isExhausted = (error: unknown): boolean =>
  EXHAUSTED_CODES.has((error as NodeJS.ErrnoException).code ?? "");

/**
 * Opens a path below a directory; throws {@link OpenFailure}. `flags`: those of `open`. The descriptor is the caller's to close, and
 * no program inherits it.
 */
export function openBelow(directory: number, path: string | Buffer, flags: number, follow: number): number {
  const name = Buffer.concat([Buffer.from(path as string), Buffer.alloc(1)]);
  const how = Buffer.alloc(HOW_BYTES);
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(follow), 16);
  for (let attempt = 1; ; attempt++) {
    const { value, errno } = result(calls.openat2(OPENAT2, directory, name, how, HOW_BYTES));
    if (errno === 0) return value;
    if ((errno !== EAGAIN && errno !== EINTR) || attempt === ATTEMPTS) throw new OpenFailure(errno);
  }
}

/** Opens a path of a sandbox whose root directory this is, as it would be opened inside. Throws the file errors. */
export function openInRoot(root: number, path: string | Buffer, flags: number): number {
  try {
    return openBelow(root, path, flags, FOLLOW.likeRoot);
  } catch (error) {
    throw fileError(error);
  }
}

/** Whether what is open is of /proc, where much depends on who looks. */
export function isOfProc(fd: number): boolean {
  return magicOf(fd) === PROC_MAGIC;
}

/** Whether what is open is on a disk of this machine: not in memory, nor made up by a driver or a server. */
export function isOnDisk(fd: number): boolean {
  return DISK_MAGICS.has(magicOf(fd));
}

/** The kind of filesystem that something is on. */
function magicOf(fd: number): number {
  const info = Buffer.alloc(STATFS_BYTES);
  check("fstatfs", result(calls.fstatfs(fd, info)));
  return info.readUInt32LE(0);
}

/** Where a link leads: one of a directory by its name, or by an empty name the one that is open itself. */
export function readLinkAt(fd: number, name: Buffer): Buffer {
  const target = Buffer.alloc(MAX_TARGET_BYTES);
  const path = Buffer.concat([name, Buffer.alloc(1)]);
  return target.subarray(0, check("readlinkat", result(calls.readlinkat(fd, path, target, target.length))));
}

/** The error as a client may see it, where it is one of those of {@link openBelow}. */
export function fileError(error: unknown): unknown {
  if (!(error instanceof OpenFailure)) return error;
  const { errno } = error;
  const code = CODES[errno];
  if (code) return new ApiError(code, { cause: error });
  if (errno === ENOSYS) {
    return new ApiError("unsupported_by_backend", {
      detail: "This needs Linux 5.6 or later on the host.",
      cause: error,
    });
  }
  if (errno === EAGAIN) {
    return new ApiError("backend_unavailable", {
      detail: "What is on the way to the path keeps being moved.",
      retryAfter: 1,
    });
  }
  return error;
}

/**
 * Opens the root directory of a process, as this machine sees it; undefined where this daemon may not. `isStill` says
 * whether the process is still the one that is meant: asked once it is open, since its number may be another's by now.
 */
export function openRootOf(pid: number, isStill: () => boolean): number | undefined {
  let root: number;
  try {
    root = openSync(`/proc/${pid}/root`, O_PATH | constants.O_DIRECTORY);
  } catch (error) {
    if (isExhausted(error)) throw error;
    return undefined;
  }
  if (isStill()) return root;
  closeSync(root);
  return undefined;
}
