import { closeSync, openSync, readSync } from "node:fs";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { EAGAIN, EDQUOT, EINTR, ENOSPC, Epoll, growPipe, spliceOn, spliceToFile } from "../linux/libc.ts";
import type { PumpCommand, PumpMemory, PumpNews } from "./pump-protocol.ts";
import { SEGMENT_BYTES, SegmentWriter } from "./segments.ts";

/**
 * The thread that carries what processes write from their pipes into segment files. It moves bytes by `splice`, inside of the
 * kernel: whatever becomes of the daemon, and at whichever instant, a byte is in the pipe or in the file.
 */
const WAKE_KEY = 0xffff_ffff;
/** What one stream may move before the others have their turn. */
const TURN_BYTES = 4 * SEGMENT_BYTES;
const GROWN_PIPE_BYTES = 1024 * 1024;
const PLAIN_PIPE_BYTES = 65_536;
/** The thread looks up now and then, so that it can be ended. */
const WAIT_MS = 1_000;

interface Stream {
  key: number;
  fd: number;
  writer: SegmentWriter;
  length: number;
  isDiscarding: boolean;
  isHeld: boolean;
  isGrown: boolean;
}

const { wakeFd, epollFd, memory } = workerData as { wakeFd: number; epollFd: number; memory: PumpMemory };
const port = parentPort!;
const epoll = new Epoll(epollFd);
const streams = new Map<number, Stream>();
const nowhere = openSync("/dev/null", "w");
const wakeBytes = Buffer.alloc(256);
let untold: PumpNews[] = [];
let isEnding = false;

epoll.add(wakeFd, WAKE_KEY);
while (!isEnding) {
  for (const { key, hasBytes } of epoll.wait(WAIT_MS)) {
    if (key === WAKE_KEY) readSync(wakeFd, wakeBytes);
    if (key === WAKE_KEY || !streams.has(key)) obey();
    const stream = streams.get(key);
    if (stream && hasBytes) move(stream);
    // Without a look at the disk: most processes never say a word on one of their outputs.
    else if (stream) release(stream);
  }
  if (untold.length > 0) port.postMessage(untold);
  untold = [];
}
for (const stream of streams.values()) release(stream);

function tell(news: PumpNews): void {
  untold.push(news);
}

function obey(): void {
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
    const command = next.message as PumpCommand;
    if (command.kind === "end") isEnding = true;
    else if (command.kind === "open") open(command);
    else change(command);
  }
}

function open({ key, fd, base, length }: Extract<PumpCommand, { kind: "open" }>): void {
  const writer = new SegmentWriter(base);
  const stream: Stream = { key, fd, writer, length, isDiscarding: false, isHeld: false, isGrown: false };
  streams.set(key, stream);
}

function change(command: Extract<PumpCommand, { kind: "resume" | "look" | "discard" | "close" }>): void {
  const stream = streams.get(command.key);
  if (!stream) return;
  if (command.kind === "close") return release(stream);
  if (command.kind === "look") return look(stream);
  if (command.kind === "discard") stream.isDiscarding = true;
  if (stream.isHeld) {
    stream.isHeld = false;
    epoll.add(stream.fd, stream.key);
  }
}

function look(stream: Stream): void {
  if (!stream.isHeld) move(stream);
  if (streams.has(stream.key)) tell({ kind: "looked", key: stream.key, isHeld: stream.isHeld });
}

function move(stream: Stream): void {
  for (let moved = 0; moved < TURN_BYTES;) {
    const room = stream.isDiscarding ? TURN_BYTES : roomOf(stream);
    if (room <= 0) return hold(stream, false);
    const file = fileOf(stream);
    if (file === undefined) return hold(stream, true);
    const { value, errno } =
      file === nowhere
        ? spliceOn(stream.fd, nowhere, room)
        : spliceToFile(stream.fd, file, stream.length % SEGMENT_BYTES, room);
    if (errno === EINTR) continue;
    if (errno === EAGAIN) return;
    if (errno === ENOSPC || errno === EDQUOT) return hold(stream, true);
    if (value <= 0) {
      if (errno !== 0) console.error(`sandbar host: the output of a process cannot be kept: error ${errno}`);
      return release(stream);
    }
    moved += value;
    if (stream.isDiscarding) continue;
    stream.length += value;
    noteLength(stream);
    if (!stream.isGrown && value >= PLAIN_PIPE_BYTES) {
      stream.isGrown = true;
      growPipe(stream.fd, GROWN_PIPE_BYTES);
    }
  }
}

/** Where the next byte goes; undefined while the machine has no room for another file. */
function fileOf(stream: Stream): number | undefined {
  if (stream.isDiscarding) return nowhere;
  try {
    return stream.writer.fileAt(stream.length);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") return undefined;
    // The logs of the sandbox are removed: nobody will read this one.
    stream.isDiscarding = true;
    return nowhere;
  }
}

/** How much may be moved now: to the end of the file, or to the limit. */
function roomOf({ key, length }: Stream): number {
  const left = Number(Atomics.load(memory.limits, key)) - length;
  return Math.min(left, SEGMENT_BYTES - (length % SEGMENT_BYTES));
}

function noteLength({ key, length }: Stream): void {
  Atomics.store(memory.lengths, key, BigInt(length));
  if (Atomics.exchange(memory.notice, 0, 1) === 0) tell({ kind: "grown" });
}

function hold(stream: Stream, isDiskFull: boolean): void {
  stream.isHeld = true;
  epoll.remove(stream.fd);
  tell({ kind: "held", key: stream.key, isDiskFull });
}

function release(stream: Stream): void {
  streams.delete(stream.key);
  if (!stream.isHeld) epoll.remove(stream.fd);
  closeSync(stream.fd);
  stream.writer.close();
  tell({ kind: "ended", key: stream.key });
}
