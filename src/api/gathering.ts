/** How long bytes wait for more. */
const WAIT_MS = 1;

/** Gathers what comes in small pieces, and writes it in large ones: nothing waits longer than the write before it, and a moment. */
export class Gathering {
  readonly #size: number;
  readonly #room: number;
  readonly #write: (bytes: Uint8Array) => Promise<void>;
  #buffer: Uint8Array;
  #spare: Uint8Array | undefined;
  #filled = 0;
  #writing: Promise<void> | undefined;
  #isSoon = false;
  #hasFailed = false;

  /** `write` has the bytes, and so much `room` before and behind them, until its promise settles. */
  constructor({ size, room }: { size: number; room: number }, write: (bytes: Uint8Array) => Promise<void>) {
    this.#size = size;
    this.#room = room;
    this.#write = write;
    this.#buffer = this.#makeBuffer();
  }

  /** Takes a piece of at most half the size. Where that makes it half full, or a write has failed, the caller waits for `flush` before the next. */
  add(piece: Uint8Array): { isFull: boolean } {
    this.#buffer.set(piece, this.#room + this.#filled);
    this.#filled += piece.length;
    const isFull = this.#filled > this.#size / 2;
    if (!isFull && !this.#isSoon) {
      this.#isSoon = true;
      setTimeout(() => this.#flushSoon(), WAIT_MS);
    }
    return { isFull: isFull || this.#hasFailed };
  }

  /** Begins to write what there is, once what was begun before is written. Rejects as that did. */
  async flush(): Promise<void> {
    while (this.#writing) await this.#writing;
    if (this.#filled === 0) return;
    const bytes = this.#buffer.subarray(this.#room, this.#room + this.#filled);
    [this.#buffer, this.#spare] = [this.#spare ?? this.#makeBuffer(), this.#buffer];
    this.#filled = 0;
    this.#writing = this.#write(bytes).then(() => void (this.#writing = undefined));
    // Whoever flushes next hears of it.
    this.#writing.catch(() => (this.#hasFailed = true));
  }

  /** Resolves once all is written. */
  async end(): Promise<void> {
    await this.flush();
    await this.#writing;
  }

  #flushSoon(): void {
    this.#isSoon = false;
    this.flush().catch(() => undefined);
  }

  #makeBuffer(): Uint8Array {
    return new Uint8Array(this.#size + 2 * this.#room);
  }
}
