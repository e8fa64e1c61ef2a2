import { once } from "node:events";
import { PassThrough, Writable } from "node:stream";

const HEADER_BYTES = 8;
const STDERR = 2;

export interface DemultiplexerOptions {
  /** A terminal's stream: all of it is stdout. */
  isRaw?: boolean;
  /** Sees the first bytes of stdout before anyone does, and may keep them back by answering false. */
  review?: (firstStdout: Buffer) => Promise<boolean>;
}

/**
 * Takes an engine's multiplexed stream apart: eight bytes of header (stream, three zeros, length), then the payload. Bytes
 * pass as they come, and a full reader holds the whole connection back, as the engine's own client does.
 */
export class Demultiplexer extends Writable {
  readonly stdout = new PassThrough();
  readonly stderr = new PassThrough();
  readonly #options: DemultiplexerOptions;
  #header = Buffer.alloc(0);
  #remaining = 0;
  #target = this.stdout;
  #reviewed = false;
  #busy = false;
  #arrivedAt = Date.now();

  constructor(options: DemultiplexerOptions = {}) {
    super({ decodeStrings: true });
    this.#options = options;
    for (const stream of [this.stdout, this.stderr]) stream.on("error", () => undefined);
  }

  /** How long nothing has arrived; 0 while a slow reader holds something back. */
  get silentMs(): number {
    return this.#busy || this.writableLength > 0 ? 0 : Date.now() - this.#arrivedAt;
  }

  /** How long a reader has been holding the output back. */
  get heldMs(): number {
    return this.#busy ? Date.now() - this.#arrivedAt : 0;
  }

  /** No more output: readers get what there is, then the end. */
  endOutput(): void {
    for (const stream of [this.stdout, this.stderr]) if (!stream.writableEnded) stream.end();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#arrivedAt = Date.now();
    this.#busy = true;
    void this.#pass(chunk).then(
      () => this.#settle(done, null),
      (error: unknown) => this.#settle(done, error as Error),
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    this.endOutput();
    done();
  }

  #settle(done: (error?: Error | null) => void, error: Error | null): void {
    this.#busy = false;
    done(error);
  }

  async #pass(chunk: Buffer): Promise<void> {
    if (this.#options.isRaw) return this.#deliver(chunk);
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#remaining > 0) {
        const payload = rest.subarray(0, this.#remaining);
        rest = rest.subarray(payload.length);
        this.#remaining -= payload.length;
        await this.#deliver(payload);
        continue;
      }
      const missing = HEADER_BYTES - this.#header.length;
      this.#header = Buffer.concat([this.#header, rest.subarray(0, missing)]);
      rest = rest.subarray(missing);
      if (this.#header.length < HEADER_BYTES) return;
      this.#target = this.#header[0] === STDERR ? this.stderr : this.stdout;
      this.#remaining = this.#header.readUInt32BE(4);
      this.#header = Buffer.alloc(0);
    }
  }

  async #deliver(payload: Buffer): Promise<void> {
    const target = this.#target;
    if (!this.#reviewed && target === this.stdout) {
      this.#reviewed = true;
      if ((await this.#options.review?.(payload)) === false) return;
    }
    if (target.destroyed || target.writableEnded || target.write(payload)) return;
    // A reader that goes away counts as one that takes everything.
    const waiting = new AbortController();
    const { signal } = waiting;
    await Promise.race([once(target, "drain", { signal }), once(target, "close", { signal })]).catch(() => undefined);
    waiting.abort();
  }
}
