import type { TerminalSize } from "../../../contract/process.ts";
import { ApiError } from "../../../contract/errors.ts";

/**
 * What the object and the agent say to each other, on one connection for each process or file operation. A frame is one
 * letter, the length of its payload (4 bytes, big-endian), and the payload. The object begins with `H` and the token, then
 * says what the connection is for; a list is strings, each behind its length (4 bytes).
 *
 * | the object says | payload | then the agent |
 * | --------------- | ------- | -------------- |
 * | `B` boot        | list: the directory to make, and the variables of all processes | `b` |
 * | `X` start       | list: see `startFrame` | `r`, then of the process; an id that is known is not started again |
 * | `C` connections | list: ports | `c`, a list: how many connections each has |
 * | `A` attach      | list: id, offsets of stdout and stderr | the same |
 * | `R` read a file | list: path, first, last, suffix | `m`, `d`…, `z` |
 * | `T` try a port  | list: the port | `t`: whether it accepts a connection |
 * | `W` write a file | list: path, mode | `k`; takes `d`… and `z`, then `z` |
 * | `Q` stat        | list: path | `l` |
 * | `L` list        | list: path, depth, limit, the path behind which it begins | `l`…, `z`: whether there is more |
 * | `N` make a directory | list: path, whether with its parents | `l` |
 * | `M` move        | list: from, to | `z` |
 * | `V` remove      | list: path, whether with all below | `z` |
 * | `O` watch       | list: path, whether with all below | `v`…, `z` when it is gone |
 * | `G` read an archive | list: path | `k`, `d`…, `z` |
 * | `P` write an archive | list: path | `k`; takes `d`… and `z`, then `z` |
 *
 * Of a process the object says `I` (stdin), `E` (its end), `S` (a signal's number, to the group), `Z` (rows, columns), `a`
 * (offsets up to which the outputs are stored), `D` (its end is known, forget it). The agent says `r` (pid, stdin received so
 * far, whether it is open, why the process did not start, the note), `o` and `e` (offset, output), `i` (stdin taken, whether it is open), and `x` (wait status, whether for
 * want of memory, whether it did not start) after all output. Of a file it says `l` (a list: path, mode, size, owner, group,
 * seconds, nanoseconds, what it links to), and of what happens to files `v` (a list: the event, the path, where from). Whether is
 * `1`, or else `0` or nothing. `f` refuses anything: a code of the error table, and a detail.
 */
export interface Frame {
  type: string;
  payload: Uint8Array;
}

/** What the agent says in one frame at most; more is no agent. */
const MAX_PAYLOAD_BYTES = 65_536 + 8;
const HEADER_BYTES = 5;
/** Stdin and file content go in frames of this size. */
export const CHUNK_BYTES = 65_536;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function frame(type: string, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  bytes[0] = type.charCodeAt(0);
  new DataView(bytes.buffer).setUint32(1, payload.length);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** A few strings, or bytes, as one payload. */
export const list = (...strings: (string | Uint8Array)[]): Uint8Array => listOf(strings);

/** The same of any number. */
export function listOf(strings: (string | Uint8Array)[]): Uint8Array {
  const parts = strings.map((one) => (typeof one === "string" ? encoder.encode(one) : one));
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + 4 + length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length);
    bytes.set(part, at + 4);
    at += 4 + part.length;
  }
  return bytes;
}

/** Variables as the agent takes them. */
export const variablesOf = (env: Record<string, string>): string[] =>
  Object.entries(env).map(([name, value]) => `${name}=${value}`);

/** The strings of a payload; what is cut off is left out. */
export function stringsOf(payload: Uint8Array): string[] {
  const strings: string[] = [];
  const view = viewOf(payload);
  for (let at = 0; at + 4 <= payload.length;) {
    const length = view.getUint32(at);
    strings.push(decoder.decode(payload.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return strings;
}

/** Whole numbers, 8 bytes each. */
export function numbers(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setBigUint64(index * 8, BigInt(value));
  return bytes;
}

/** The number of 8 bytes at this place. One that cannot be so is no agent's. */
export function numberAt(payload: Uint8Array, at: number): number {
  if (payload.length < at + 8) throw nonsense();
  const value = Number(viewOf(payload).getBigUint64(at));
  if (!Number.isSafeInteger(value)) throw nonsense();
  return value;
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #held: Uint8Array = new Uint8Array(0);

  constructor(source: ReadableStream<Uint8Array>) {
    this.#reader = source.getReader();
  }

  /** The next frame, good until the next call; undefined at the end of the connection, wherever that comes. */
  async next(): Promise<Frame | undefined> {
    for (;;) {
      const frame = this.#take();
      if (frame) return frame;
      const { value, done } = await this.#reader.read();
      if (done) return undefined;
      this.#held = this.#held.length === 0 ? value : joined(this.#held, value);
    }
  }

  async close(): Promise<void> {
    await this.#reader.cancel().catch(() => undefined);
  }

  #take(): Frame | undefined {
    const held = this.#held;
    if (held.length < HEADER_BYTES) return undefined;
    const length = viewOf(held).getUint32(1);
    if (length > MAX_PAYLOAD_BYTES) throw nonsense();
    if (held.length < HEADER_BYTES + length) return undefined;
    this.#held = held.subarray(HEADER_BYTES + length);
    return { type: String.fromCharCode(held[0]!), payload: held.subarray(HEADER_BYTES, HEADER_BYTES + length) };
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

export function nonsense(): ApiError {
  return new ApiError("backend_unavailable", {
    detail: "The sandbox's agent says what makes no sense.",
    retryAfter: 1,
  });
}

/** That the terminal of the process has another size. */
export function resizeFrame({ rows, cols }: TerminalSize): Uint8Array {
  const size = new Uint8Array(4);
  viewOf(size).setUint16(0, rows);
  viewOf(size).setUint16(2, cols);
  return frame("Z", size);
}
