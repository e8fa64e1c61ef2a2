import koffi from "koffi";

/**
 * The calls of the C library that Node has none for. Each answers what C does, with the error number beside it where it
 * failed. For Linux.
 */
const library = koffi.load(null);

export interface Result {
  value: number;
  /** Of the `errno` table; 0 where the call went well. */
  errno: number;
}

export const EAGAIN = 11;
export const EINTR = 4;
export const ENOSPC = 28;
export const EDQUOT = 122;

/** Of pipes and sockets: not blocking, and not for the programs that this process starts. */
export const OPEN_FLAGS = 0o4000 | 0o2000000;

const EPOLLIN = 0x001;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CLOEXEC = 0o2000000;
const SPLICE_F_MOVE = 1;
const SPLICE_F_NONBLOCK = 2;
const F_SETPIPE_SZ = 1031;
const F_DUPFD_CLOEXEC = 1030;
/** `struct epoll_event` is packed on x86-64 only. */
const EVENT_BYTES = process.arch === "x64" ? 12 : 16;
const EVENTS_AT_ONCE = 64;
const EVENT_DATA_AT = EVENT_BYTES - 8;

/** Looked up at its first use: not every machine that runs the rest of this daemon has all of them. */
export function call(prototype: string): (...args: unknown[]) => number | bigint {
  let found: ReturnType<typeof library.func> | undefined;
  return (...args) => (found ??= library.func(prototype))(...args) as number | bigint;
}

const calls = {
  mkfifo: call("int mkfifo(str path, uint mode)"),
  splice: call("int64 splice(int from, void *fromOffset, int to, _Inout_ int64 *toOffset, size_t length, uint flags)"),
  spliceUnplaced: call("int64 splice(int from, void *fromOffset, int to, void *toOffset, size_t length, uint flags)"),
  epollCreate: call("int epoll_create1(int flags)"),
  epollControl: call("int epoll_ctl(int epoll, int operation, int fd, void *event)"),
  epollWait: call("int epoll_wait(int epoll, _Out_ void *events, int limit, int timeout)"),
  fcntl: call("int fcntl(int fd, int command, int argument)"),
  ioctl: call("int ioctl(int fd, ulong request, _Inout_ void *argument)"),
};

export function result(value: number | bigint): Result {
  const number = Number(value);
  return { value: number, errno: number < 0 ? koffi.errno() : 0 };
}

const MAX_LOOKS = 10;

/**
 * The result of a call that only looks, and never fails of EAGAIN by itself. The error number is read after the call: a garbage collection in
 * between that waits for a lock leaves its own there, which is that one.
 */
export function looked(look: () => number | bigint): Result {
  for (let attempt = 1; ; attempt++) {
    const found = result(look());
    if (found.errno !== EAGAIN || attempt === MAX_LOOKS) return found;
  }
}

/** The value; throws where the call failed. */
export function check(what: string, { value, errno }: Result): number {
  if (errno !== 0) throw Object.assign(new Error(`${what} failed with error ${errno}`), { errno });
  return value;
}

/** Makes a FIFO that everybody may open, whatever the umask of this daemon. */
export function makeFifo(path: string): void {
  const umask = process.umask(0);
  try {
    check(`mkfifo ${path}`, result(calls.mkfifo(path, 0o666)));
  } finally {
    process.umask(umask);
  }
}

/** Moves bytes from a pipe into a file at an offset, in one step of the kernel: none is ever in neither or in both. */
export function spliceToFile(pipe: number, file: number, offset: number, length: number): Result {
  return result(calls.splice(pipe, null, file, [offset], length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK));
}

/** Moves bytes from one descriptor to another, one of them a pipe, and the other such that no offset counts: a connection, or /dev/null. */
export function spliceOn(from: number, to: number, length: number): Result {
  return result(calls.spliceUnplaced(from, null, to, null, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK));
}

/** Lets a pipe hold more, where the machine allows it. */
export function growPipe(fd: number, bytes: number): void {
  calls.fcntl(fd, F_SETPIPE_SZ, bytes);
}

/** A second descriptor of what is open. */
export function duplicate(fd: number): number {
  return check("fcntl", result(calls.fcntl(fd, F_DUPFD_CLOEXEC, 0)));
}

/** Waits for descriptors to become readable; each is known by a number of the caller's. */
export class Epoll {
  /** Other threads may use it, too: they make an `Epoll` of it. */
  readonly fd: number;
  readonly #events = Buffer.alloc(EVENTS_AT_ONCE * EVENT_BYTES);

  constructor(fd = check("epoll_create1", result(calls.epollCreate(EPOLL_CLOEXEC)))) {
    this.fd = fd;
  }

  add(fd: number, key: number): void {
    const event = Buffer.alloc(EVENT_BYTES);
    event.writeUInt32LE(EPOLLIN, 0);
    event.writeUInt32LE(key, EVENT_DATA_AT);
    check("epoll_ctl", result(calls.epollControl(this.fd, EPOLL_CTL_ADD, fd, event)));
  }

  remove(fd: number): void {
    calls.epollControl(this.fd, EPOLL_CTL_DEL, fd, null);
  }

  /** What has something to read, or nothing more ever; empty when the time is up. */
  wait(timeoutMs: number): { key: number; hasBytes: boolean }[] {
    const { value, errno } = result(calls.epollWait(this.fd, this.#events, EVENTS_AT_ONCE, timeoutMs));
    if (errno !== 0 && errno !== EINTR) check("epoll_wait", { value, errno });
    return Array.from({ length: Math.max(0, value) }, (_, index) => {
      const at = index * EVENT_BYTES;
      const hasBytes = (this.#events.readUInt32LE(at) & EPOLLIN) !== 0;
      return { key: this.#events.readUInt32LE(at + EVENT_DATA_AT), hasBytes };
    });
  }
}

/** An ioctl whose argument is a block of memory, in and out. */
export function ioctl(fd: number, request: number, argument: Buffer): Result {
  return result(calls.ioctl(fd, request, argument));
}
