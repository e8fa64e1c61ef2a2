import type { Readable } from "node:stream";
import { ApiError } from "../contract/errors.ts";
import { MAX_INLINE_OUTPUT_BYTES } from "../contract/process.ts";

export const DEFAULT_WINDOW_BYTES = 16 * 1024 * 1024;
/** A reader that took nothing for so long no longer holds the process back; it loses what leaves the window. */
const STALL_MS = 5_000;
const MIN_BLOCK_BYTES = 512;
const MAX_BLOCK_BYTES = 65_536;

interface Block {
  start: number;
  bytes: Buffer;
  used: number;
}

/** Bounds the bytes that several logs keep together: the oldest ended log gives way first, then the largest. */
export class LogBudget {
  readonly #limitBytes: number;
  readonly #logs = new Set<ProcessLog>();
  #keptBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  add(log: ProcessLog): void {
    this.#logs.add(log);
  }

  delete(log: ProcessLog): void {
    log.end();
    log.discard(0);
    this.#logs.delete(log);
  }

  /** Accounts for bytes kept (or let go, when negative) and makes room where they are too many. */
  account(bytes: number): void {
    this.#keptBytes += bytes;
    if (bytes < 0 || this.#keptBytes <= this.#limitBytes) return;
    for (const log of this.#logs) {
      if (log.hasEnded && log.keptBytes > 0) log.discard(0);
      if (this.#keptBytes <= this.#limitBytes) return;
    }
    const largest = [...this.#logs].reduce((a, b) => (b.keptBytes > a.keptBytes ? b : a));
    largest.discard(largest.keptBytes / 2);
  }
}

/**
 * The output of a process, one stream of it: the last bytes of it in memory, addressed by their offset
 * from the very first. Any number of readers, each at its own offset. The first
 * {@link MAX_INLINE_OUTPUT_BYTES} stay beside the window, for answers that carry output inline.
 */
export class ProcessLog {
  readonly #windowBytes: number;
  readonly #budget: LogBudget;
  readonly #readers = new Set<LogReader>();
  #blocks: Block[] = [];
  #head: Block[] = [];
  #length = 0;
  #kept = 0;
  #ended = false;
  #change = Promise.withResolvers<void>();
  #resumeSource: (() => void) | undefined;

  constructor(budget: LogBudget, windowBytes = DEFAULT_WINDOW_BYTES) {
    this.#budget = budget;
    this.#windowBytes = windowBytes;
    budget.add(this);
  }

  /** Bytes written so far, also those no longer kept. */
  get length(): number {
    return this.#length;
  }

  get oldestOffset(): number {
    return this.#blocks[0]?.start ?? this.#length;
  }

  get keptBytes(): number {
    return this.#kept;
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Whether a slow reader keeps more from coming. */
  get isHeld(): boolean {
    return this.#resumeSource !== undefined;
  }

  /** Resolves at the next byte, or at the end. */
  get changed(): Promise<void> {
    return this.#change.promise;
  }

  /** Takes in the whole stream; done when it ends or breaks. Waits for readers that would lose bytes, unless they stall. */
  consume(source: Readable): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        this.end();
        resolve();
      };
      source.on("data", (chunk: Buffer) => {
        this.append(chunk);
        if (!this.#resumeSource && this.#unread() > this.#windowBytes - MAX_BLOCK_BYTES) {
          source.pause();
          this.#resumeWhenRead(source);
        }
      });
      source.once("end", finish).once("close", finish);
      source.on("error", finish);
    });
  }

  append(chunk: Buffer): void {
    if (this.#ended) return;
    let rest = chunk;
    while (rest.length > 0) {
      let last = this.#blocks.at(-1);
      if (!last || last.used === last.bytes.length) {
        // Blocks grow with the log: a process that says little costs little, one that says much in
        // single bytes costs no object for each.
        const size = Math.min(MAX_BLOCK_BYTES, Math.max(MIN_BLOCK_BYTES, rest.length, this.#kept));
        this.#keep(size);
        last = { start: this.#length, bytes: Buffer.allocUnsafeSlow(size), used: 0 };
        this.#blocks.push(last);
      }
      const copied = rest.copy(last.bytes, last.used);
      last.used += copied;
      this.#length += copied;
      rest = rest.subarray(copied);
    }
    while (this.#length - this.#firstBlockEnd() >= this.#windowBytes) this.#dropFirst();
    this.#wake();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#wake();
  }

  /** Lets go of the oldest bytes, until at most so many are kept. */
  discard(keepBytes: number): void {
    if (keepBytes === 0) {
      this.#keep(-this.#head.reduce((sum, block) => sum + block.bytes.length, 0));
      this.#head = [];
    }
    while (this.#blocks.length > 0 && this.#kept > keepBytes) this.#dropFirst(false);
  }

  /** The first bytes of the stream, and whether there are more. */
  first(limit = MAX_INLINE_OUTPUT_BYTES): { bytes: Buffer; isTruncated: boolean } {
    const parts: Buffer[] = [];
    let size = 0;
    for (const block of [...this.#head, ...this.#blocks]) {
      if (block.start !== size || size >= limit) break;
      const part = block.bytes.subarray(0, Math.min(block.used, limit - size));
      parts.push(part);
      size += part.length;
    }
    return { bytes: Buffer.concat(parts, size), isTruncated: size < this.#length };
  }

  /** A view of kept bytes at the offset; undefined when there is none yet. Throws `output_expired`. */
  at(offset: number): Buffer | undefined {
    if (offset < this.oldestOffset) {
      throw new ApiError("output_expired", {
        detail: `The output before offset ${this.oldestOffset} is no longer kept.`,
        extra: { oldest_offset: this.oldestOffset },
      });
    }
    if (offset >= this.#length) return undefined;
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#blocks[middle]!.start <= offset) low = middle;
      else high = middle - 1;
    }
    const block = this.#blocks[low]!;
    return block.bytes.subarray(offset - block.start, block.used);
  }

  /** A reader from the offset: to the end with `follow`, else to what is there now. Close it. */
  read(offset: number, follow: boolean): LogReader {
    this.at(offset);
    const reader = new LogReader(this, offset, follow ? Infinity : this.#length, () => {
      this.#readers.delete(reader);
      this.readerMoved();
      this.#wake();
    });
    this.#readers.add(reader);
    return reader;
  }

  /** A reader went on: the process may, too. */
  readerMoved(): void {
    if (this.#resumeSource && this.#unread() <= this.#windowBytes / 2) this.#resumeSource();
  }

  /** The most bytes that a reader who still reads has before it. */
  #unread(): number {
    const aliveSince = Date.now() - STALL_MS;
    let most = 0;
    for (const reader of this.#readers) {
      if (reader.movedAt > aliveSince) most = Math.max(most, this.#length - reader.offset);
    }
    return most;
  }

  #resumeWhenRead(source: Readable): void {
    const poll = setInterval(() => this.readerMoved(), 500);
    this.#resumeSource = () => {
      clearInterval(poll);
      this.#resumeSource = undefined;
      source.resume();
    };
  }

  #firstBlockEnd(): number {
    const first = this.#blocks[0];
    return first ? first.start + first.used : this.#length;
  }

  #dropFirst(keepHead = true): void {
    const block = this.#blocks.shift()!;
    if (keepHead && block.start < MAX_INLINE_OUTPUT_BYTES) this.#head.push(block);
    else this.#keep(-block.bytes.length);
  }

  #keep(bytes: number): void {
    this.#kept += bytes;
    if (bytes !== 0) this.#budget.account(bytes);
  }

  #wake(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }
}

/** One reader of a log. */
export class LogReader {
  offset: number;
  movedAt = Date.now();
  readonly #log: ProcessLog;
  readonly #until: number;
  readonly #onClose: () => void;
  #isClosed = false;

  constructor(log: ProcessLog, offset: number, until: number, onClose: () => void) {
    this.#log = log;
    this.offset = offset;
    this.#until = until;
    this.#onClose = onClose;
  }

  /** The next bytes; undefined at the end or once closed. Throws `output_expired` when they left the window. */
  async next(): Promise<Buffer | undefined> {
    while (!this.#isClosed && this.offset < this.#until) {
      const bytes = this.#log.at(this.offset)?.subarray(0, this.#until - this.offset);
      this.movedAt = Date.now();
      if (bytes) {
        this.offset += bytes.length;
        this.#log.readerMoved();
        return bytes;
      }
      if (this.#log.hasEnded) return undefined;
      await this.#log.changed;
    }
    return undefined;
  }

  /** Ends a `next` that waits, too. */
  close(): void {
    this.#isClosed = true;
    this.#onClose();
  }
}
