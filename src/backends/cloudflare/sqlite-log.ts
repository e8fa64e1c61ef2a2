import { ApiError } from "../../contract/errors.ts";
import { MAX_INLINE_OUTPUT_BYTES, type OutputStream } from "../../contract/process.ts";
import { Holds, IN_FLIGHT_BYTES } from "../../process/holds.ts";
import { LogReader } from "../../process/log-reader.ts";
import type { LogSource, OutputLog } from "../../process/output-log.ts";
import type { CloudflareStore } from "./store.ts";

/** How much of each stream is kept at least, and how far a process may run ahead of its readers. */
export const WINDOW_BYTES = 16 * 1024 * 1024;
/** What the agent may have sent without an acknowledgement, and then some. */
const MAX_UNDER_WAY_BYTES = 4 * 1024 * 1024;
/** Small writes are put together up to this size. */
const PIECE_BYTES = 32 * 1024;
/** The window is moved in steps of this size. */
const STEP_BYTES = 1024 * 1024;
/** What is answered inline stays beside the window. */
const HEAD_BYTES = MAX_INLINE_OUTPUT_BYTES;

/** The output of a process, one stream of it, in the object's SQLite: the last bytes of it, by offset. */
export class SqliteLog implements OutputLog {
  readonly holds = new Holds();
  readonly #store: CloudflareStore;
  readonly #seq: number;
  readonly #stream: OutputStream;
  readonly #listeners = new Set<() => void>();
  readonly #onRoom: () => void;
  #length: number;
  #oldest: number;
  #ended: boolean;
  /** The last piece, while more fits into it. */
  #last: { start: number; length: number } | undefined;

  /** `onRoom` is called whenever the process may go on. `endedAt` is the length of an output that has ended. */
  constructor(
    store: CloudflareStore,
    seq: number,
    stream: OutputStream,
    { endedAt, onRoom }: { endedAt?: number | undefined; onRoom: () => void },
  ) {
    this.#store = store;
    this.#seq = seq;
    this.#stream = stream;
    this.#onRoom = onRoom;
    const { oldest, length } = store.extent(seq, stream);
    this.#length = endedAt ?? length;
    this.#oldest = oldest;
    this.#ended = endedAt !== undefined;
  }

  get length(): number {
    return this.#length;
  }

  get oldestOffset(): number {
    return this.#oldest;
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Whether the process may write more, as far as its readers go. */
  get hasRoom(): boolean {
    const waitedFor = this.holds.lowest();
    return waitedFor === undefined || this.#length < waitedFor + WINDOW_BYTES;
  }

  /** Whether more came, while the process was to wait for its readers, than an agent may still have had under way. */
  get isOverrun(): boolean {
    const waitedFor = this.holds.lowest();
    return waitedFor !== undefined && this.#length > waitedFor + WINDOW_BYTES + IN_FLIGHT_BYTES + MAX_UNDER_WAY_BYTES;
  }

  append(bytes: Uint8Array): void {
    if (this.#ended || bytes.length === 0) return;
    if (this.#last && this.#last.length + bytes.length <= PIECE_BYTES) {
      this.#store.extendOutput(this.#seq, this.#stream, this.#last.start, bytes);
      this.#last.length += bytes.length;
    } else {
      this.#store.appendOutput(this.#seq, this.#stream, this.#length, bytes);
      this.#last = { start: this.#length, length: bytes.length };
    }
    this.#length += bytes.length;
    this.#trim();
    this.#wake();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#wake();
  }

  /** Lets go of all but the last bytes, the first ones included. */
  shorten(toBytes: number): void {
    if (this.#length - toBytes > 0) this.#dropBefore(Math.max(this.#oldest, this.#length - toBytes), 0);
  }

  /** Lets go of everything. */
  discard(): void {
    this.#dropBefore(this.#length, 0);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  requireKept(offset: number): void {
    if (offset >= this.#oldest) return;
    throw new ApiError("output_expired", {
      detail: `The output before offset ${this.#oldest} is no longer kept.`,
      extra: { oldest_offset: this.#oldest },
    });
  }

  /** Waits for whoever was reading in an earlier life of the object, near the end; what may have been on its way is kept before that. */
  awaitReturn(): void {
    this.holds.awaitAnyone(Math.max(this.#oldest, this.#length - WINDOW_BYTES / 2));
  }

  readerMoved(): void {
    if (this.hasRoom) this.#onRoom();
  }

  read(offset: number, follow: boolean): LogReader {
    this.requireKept(offset);
    return new LogReader(this, offset, follow);
  }

  open(): LogSource {
    let piece: { start: number; bytes: Uint8Array } | undefined;
    return {
      read: (offset, available) => {
        // The last piece grows.
        if (!piece || offset < piece.start || offset >= piece.start + piece.bytes.length) {
          piece = this.#store.output(this.#seq, this.#stream, offset);
        }
        const from = offset - (piece?.start ?? 0);
        const bytes = piece?.bytes.subarray(from, from + available) ?? new Uint8Array(0);
        if (bytes.length === 0) throw new Error(`the output at ${offset} is not where it was kept`);
        return bytes;
      },
      close: () => {
        piece = undefined;
      },
    };
  }

  first(): { bytes: Uint8Array; isTruncated: boolean } {
    const size = Math.min(HEAD_BYTES, this.#length);
    const bytes = new Uint8Array(size);
    let at = 0;
    while (at < size) {
      const piece = this.#store.output(this.#seq, this.#stream, at);
      const part = piece?.bytes.subarray(at - piece.start, size - piece.start);
      if (!part || part.length === 0) break;
      bytes.set(part, at);
      at += part.length;
    }
    return { bytes: bytes.subarray(0, at), isTruncated: at < this.#length };
  }

  #trim(): void {
    const waitedFor = this.holds.lowest();
    const window = this.#length - WINDOW_BYTES;
    const oldest = waitedFor === undefined ? window : Math.min(window, waitedFor - IN_FLIGHT_BYTES);
    if (oldest >= this.#oldest + STEP_BYTES) this.#dropBefore(oldest);
  }

  #dropBefore(oldest: number, head = HEAD_BYTES): void {
    this.#oldest = oldest;
    this.#store.dropOutput(this.#seq, this.#stream, oldest, head);
  }

  #wake(): void {
    for (const listener of this.#listeners) listener();
  }
}
