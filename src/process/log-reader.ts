import { STALL_MS, type HoldingReader } from "./holds.ts";
import type { LogSource, ReadableLog } from "./output-log.ts";

/** What is larger is read into memory that the next read may use again. */
export const SMALL_CHUNK_BYTES = 16 * 1024;

/** What a reader finds: bytes, nothing yet, or nothing any more. */
export type Taken = { kind: "bytes"; bytes: Uint8Array } | { kind: "none" } | { kind: "end" };

/** One reader of a log. */
export class LogReader implements HoldingReader {
  offset: number;
  until = 0;
  readonly from: number;
  readonly cameAt = Date.now();
  movedAt = this.cameAt;
  readonly #log: ReadableLog;
  readonly #follow: boolean;
  readonly #end: number;
  readonly #source: LogSource;
  readonly #unsubscribe: () => void;
  #wake: (() => void) | undefined;
  #isClosed = false;

  constructor(log: ReadableLog, offset: number, follow: boolean) {
    this.#log = log;
    this.offset = offset;
    this.from = offset;
    this.#follow = follow;
    this.#end = follow ? Infinity : log.length;
    this.#source = log.open();
    this.#unsubscribe = log.onChange(() => {
      // From here on there is something to take.
      if (this.until === Infinity) this.#touch();
      this.#wake?.();
    });
    this.#touch();
    if (follow) log.holds.arrive(this);
    log.readerMoved();
  }

  /**
   * What is there now. Bytes of more than {@link SMALL_CHUNK_BYTES} are good until the next call. Throws `output_expired`
   * when the bytes left the window.
   */
  take(): Taken {
    if (this.#isClosed || this.offset >= this.#end) return { kind: "end" };
    this.#touch();
    this.#log.requireKept(this.offset);
    const available = Math.min(this.#log.length, this.#end) - this.offset;
    if (available > 0) return { kind: "bytes", bytes: this.#read(available) };
    if (this.#log.hasEnded) return { kind: "end" };
    // Whoever has all there is does not stall.
    this.until = Infinity;
    return { kind: "none" };
  }

  /** Calls once or more often when there may be more to take, or it was closed. Replaces the one before. */
  onWake(wake: () => void): void {
    this.#wake = wake;
  }

  /** The next bytes; undefined at the end or once closed. Otherwise as `take`. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const taken = this.take();
      if (taken.kind === "bytes") return taken.bytes;
      if (taken.kind === "end") return undefined;
      await new Promise<void>((resolve) => this.onWake(resolve));
    }
  }

  /** Ends a `next` that waits, too. `isCut`: the reader had not come to its end, and may be back. */
  close(isCut = false): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#source.close();
    this.#unsubscribe();
    if (this.#follow) this.#log.holds.leave(this, isCut && !this.#log.hasEnded);
    this.#log.readerMoved();
    this.#wake?.();
  }

  #read(available: number): Uint8Array {
    const bytes = this.#source.read(this.offset, available);
    this.offset += bytes.length;
    this.movedAt = Date.now();
    this.#log.readerMoved();
    return bytes;
  }

  #touch(): void {
    this.until = Date.now() + STALL_MS;
  }
}
