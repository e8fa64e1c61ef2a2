import { ApiError } from "../contract/errors.ts";
import type { StdinState } from "../contract/process.ts";

/** What is given to the process in one piece: a larger one would be acknowledged late. */
const PIECE_BYTES = 65_536;

/** Where the input of a process goes. */
export interface InputSink {
  /**
   * True once the bytes are taken; false when nobody reads any more, also where the process ends while they wait. Never
   * rejects. Called again only when the one before is done.
   */
  write(bytes: Uint8Array): Promise<boolean>;
  /** Nothing more comes. */
  end(): void;
}

export interface InputOptions {
  sink: InputSink;
  /** How much the process has been given already. */
  offset: number;
  isOpen: boolean;
  /** Resolves when the process has ended: nobody reads any more. */
  ended: Promise<unknown>;
  /** Called after every step that must be known after a restart, before anybody is told of it. */
  note(state: StdinState): void;
}

/** The input of a process, counted: what is sent again is not given again. One writer at a time, the others wait. */
export class ProcessInput {
  readonly #options: InputOptions;
  #offset: number;
  #isOpen: boolean;
  #hasEnded = false;
  #turn: Promise<unknown> = Promise.resolve();
  /** What was offered and waits for its turn, in one batch. */
  #offered: Uint8Array[] = [];
  #batch: Promise<StdinState> | undefined;

  constructor(options: InputOptions) {
    this.#options = options;
    this.#offset = options.offset;
    this.#isOpen = options.isOpen;
    void options.ended.then(() => {
      this.#hasEnded = true;
    });
  }

  get state(): StdinState {
    return { offset: this.#offset, closed: !this.#isOpen || this.#hasEnded };
  }

  /** Takes bytes of a sender that does not wait; what was offered in the meantime goes together. Resolves or throws as `write`. */
  offer(bytes: Uint8Array): Promise<StdinState> {
    this.#offered.push(bytes);
    this.#batch ??= this.write(this.#takeOffered(), { eof: false });
    return this.#batch;
  }

  /** When its turn has come: what comes after that is the next batch. */
  async *#takeOffered(): AsyncIterable<Uint8Array> {
    const bytes = concat(this.#offered);
    this.#offered = [];
    this.#batch = undefined;
    yield bytes;
  }

  /**
   * Gives the bytes to the process, from the offset or behind what it has; done when they are taken. Throws `process_ended`,
   * `stdin_closed` and `stdin_gap`.
   */
  write(body: AsyncIterable<Uint8Array>, options: { offset?: number | undefined; eof: boolean }): Promise<StdinState> {
    const run = this.#turn.then(() => this.#write(body, options));
    this.#turn = run.catch(() => {});
    return run;
  }

  async #write(body: AsyncIterable<Uint8Array>, options: { offset?: number | undefined; eof: boolean }) {
    let at = options.offset ?? this.#offset;
    if (at > this.#offset) throw this.#hasEnded ? this.#ended() : gap(this.#offset);
    const before = this.#offset;
    for await (const chunk of body) {
      const fresh = chunk.subarray(Math.min(chunk.length, Math.max(0, this.#offset - at)));
      at += chunk.length;
      if (fresh.length > 0) await this.#give(fresh);
    }
    // What is repeated after the end is answered as it was before: whoever lost the answer learns what was taken.
    if (this.#hasEnded && options.offset === undefined && this.#offset === before) throw this.#ended();
    if (options.eof && this.#isOpen) {
      this.#isOpen = false;
      this.#options.note(this.state);
      this.#options.sink.end();
    }
    return this.state;
  }

  #ended(): ApiError {
    return new ApiError("process_ended", { detail: "The process has ended.", extra: { offset: this.#offset } });
  }

  async #give(bytes: Uint8Array): Promise<void> {
    if (this.#hasEnded) throw this.#ended();
    if (!this.#isOpen) throw new ApiError("stdin_closed", { extra: { offset: this.#offset } });
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      const isTaken = await this.#options.sink.write(piece);
      if (!isTaken) throw this.#ended();
      this.#offset += piece.length;
      this.#options.note(this.state);
    }
  }
}

function concat(parts: Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function gap(offset: number): ApiError {
  return new ApiError("stdin_gap", {
    detail: `The process has been given ${offset} bytes; what is sent begins beyond.`,
    extra: { offset },
  });
}
