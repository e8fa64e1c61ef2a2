import type { Readable } from "node:stream";
import { ApiError } from "../../contract/errors.ts";
import { Holds, IN_FLIGHT_BYTES } from "../../process/holds.ts";
import { LogReader } from "../../process/log-reader.ts";
import type { OutputLog } from "../../process/output-log.ts";
import { KeptSegments } from "./kept-segments.ts";
import type { LogBudget } from "./log-budget.ts";
import type { LogOptions } from "./log-options.ts";
import type { Pump, PumpedStream } from "./pump.ts";
import { SegmentSource } from "./segment-source.ts";
import { readHead, SegmentWriter } from "./segments.ts";

export const DEFAULT_WINDOW_BYTES = 16 * 1024 * 1024;
/** How often it is looked at whether a process that is held may go on. */
const HELD_POLL_MS = 250;

/**
 * The output of a process, one stream of it: the last bytes of it, on disk, addressed by their offset from the very first.
 * Any number of readers, each at its own offset. The first segment stays beside the window, for answers that carry output
 * inline.
 */
export class ProcessLog implements OutputLog {
  readonly base: string;
  readonly holds = new Holds();
  readonly #windowBytes: number;
  readonly #budget: LogBudget;
  readonly #writer: SegmentWriter;
  readonly #kept: KeptSegments;
  #ended = false;
  #isDiskFull = false;
  readonly #listeners = new Set<() => void>();
  #pumped: PumpedStream | undefined;
  #looked: PromiseWithResolvers<void> | undefined;
  #resume: (() => void) | undefined;

  constructor(options: LogOptions) {
    this.base = options.base;
    this.#windowBytes = options.windowBytes ?? DEFAULT_WINDOW_BYTES;
    this.#budget = options.budget;
    this.#writer = new SegmentWriter(options.base);
    this.#kept = new KeptSegments(options.base, options.found ?? []);
    this.#budget.add(this);
  }

  /** Bytes written so far, also those no longer kept. */
  get length(): number {
    return this.#kept.length;
  }

  get oldestOffset(): number {
    return this.#kept.oldestOffset;
  }

  get keptBytes(): number {
    return this.#kept.bytes;
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Whether a slow reader, or a full disk, keeps more from coming. */
  get isHeld(): boolean {
    return this.#resume !== undefined;
  }

  /** Calls at every byte more, and at the end, until the answer is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes in all of a pipe, whose reading end it takes over; done at its end. */
  carry(pump: Pump, fd: number): Promise<void> {
    const done = Promise.withResolvers<void>();
    const finish = () => {
      this.end();
      done.resolve();
    };
    this.#pumped = pump.open(fd, this.base, this.length, {
      grown: (length) => this.#grow(length),
      held: (isDiskFull) => {
        if (isDiskFull) this.#sayDiskIsFull();
        this.#hold(() => this.#pumped?.resume());
        this.readerMoved();
      },
      looked: (isHeld) => {
        if (!isHeld) this.#seen();
        else if (!this.isHeld) this.#pumped?.look();
      },
      ended: finish,
    });
    this.#setLimit();
    return done.promise;
  }

  /** Takes in all of a stream; done when it ends or breaks. */
  consume(source: Readable): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        this.end();
        resolve();
      };
      const keep = (chunk: Buffer) => {
        if (this.#ended) return;
        try {
          this.#writer.write(chunk, this.length);
        } catch {
          this.#sayDiskIsFull();
          source.pause();
          setTimeout(() => keep(chunk), HELD_POLL_MS);
          return;
        }
        this.#grow(this.length + chunk.length);
        if (this.isHeld) return;
        if (this.#room() > 0) return void source.resume();
        source.pause();
        this.#hold(() => source.resume());
      };
      source.on("data", keep);
      source.once("end", finish).once("close", finish).on("error", finish);
    });
  }

  /** Resolves once all that was in the pipe at this moment is kept, which a slow reader may put off. */
  settled(): Promise<void> {
    if (!this.#pumped || this.#ended) return Promise.resolve();
    this.#looked ??= Promise.withResolvers();
    this.#pumped.look();
    return this.#looked.promise;
  }

  /** Nothing more is kept; what is still written goes nowhere. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#pumped?.discard();
    this.#writer.close();
    this.#budget.enforce();
    this.#resume?.();
    this.#seen();
    this.#wake();
  }

  /** Lets go of the oldest bytes, until at most so many are kept; 0 is for a log that has ended. */
  discard(keepBytes: number): void {
    this.#kept.shrink(keepBytes);
  }

  /** Ends it and removes all that it kept. */
  remove(): void {
    this.end();
    this.#pumped?.close();
    this.discard(0);
    this.#budget.delete(this);
  }

  /** The first bytes of the stream, and whether there are more. */
  first(): { bytes: Buffer; isTruncated: boolean } {
    const size = this.#kept.headBytes;
    if (size === 0) return { bytes: Buffer.alloc(0), isTruncated: this.length > 0 };
    return { bytes: readHead(this.base, size), isTruncated: size < this.length };
  }

  /** Waits for whoever was reading when an earlier daemon ended, near the end; what may have been on its way is kept before that. */
  awaitReturn(): void {
    this.holds.awaitAnyone(Math.max(this.oldestOffset, this.length - this.#windowBytes / 2));
  }

  /** Throws `output_expired` where the byte at the offset is no longer kept. */
  requireKept(offset: number): void {
    const oldest = this.oldestOffset;
    if (offset >= oldest) return;
    throw new ApiError("output_expired", {
      detail: `The output before offset ${oldest} is no longer kept.`,
      extra: { oldest_offset: oldest },
    });
  }

  /** A reader from the offset: to the end with `follow`, else to what is there now. Close it. Throws `output_expired`. */
  read(offset: number, follow: boolean): LogReader {
    this.requireKept(offset);
    return new LogReader(this, offset, follow);
  }

  open(): SegmentSource {
    return new SegmentSource(this.base);
  }

  /** A reader has come, gone on or gone: the process may, too. */
  readerMoved(): void {
    this.#setLimit();
    if (this.#room() > 0) this.#resume?.();
  }

  #grow(length: number): void {
    if (this.#ended || length === this.length) return;
    this.#isDiskFull = false;
    if (this.#kept.grow(length)) this.#trim();
    this.#wake();
  }

  #sayDiskIsFull(): void {
    if (!this.#isDiskFull) console.error(`sandbar host: the disk is full: ${this.base} waits for room`);
    this.#isDiskFull = true;
  }

  /** Drops what lies before the window, and before what a reader may ask for again. */
  #trim(): void {
    const waitedFor = this.holds.lowest();
    const window = this.length - this.#windowBytes;
    this.#kept.dropBefore(waitedFor === undefined ? window : Math.min(window, waitedFor - IN_FLIGHT_BYTES));
    this.#budget.enforce();
  }

  /** The length that the process must not exceed now. */
  #limit(): number {
    const waitedFor = this.holds.lowest();
    return waitedFor === undefined ? Number.MAX_SAFE_INTEGER : waitedFor + this.#windowBytes;
  }

  #room(): number {
    return this.#limit() - this.length;
  }

  #setLimit(): void {
    this.#pumped?.setLimit(this.#limit());
  }

  /** Readers that move let it go, and so does time: those that do not are not waited for. */
  #hold(resume: () => void): void {
    const poll = setInterval(() => this.readerMoved(), HELD_POLL_MS);
    this.#resume = () => {
      clearInterval(poll);
      this.#resume = undefined;
      resume();
      if (this.#looked) this.#pumped?.look();
    };
  }

  #seen(): void {
    this.#looked?.resolve();
    this.#looked = undefined;
  }

  #wake(): void {
    for (const listener of this.#listeners) listener();
  }
}
