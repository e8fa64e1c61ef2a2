import type { Socket } from "node:net";
import { Readable } from "node:stream";

/** How long an output may stay silent after the end of its process before it counts as complete. */
const SILENCE_MS = 50;

/**
 * What a process writes. Ends when the last writer has gone, or soon after `finish` when something in the
 * background still holds the pipe; the pipe is drained on, so that nobody in the background gets SIGPIPE.
 */
export class Output extends Readable {
  readonly #socket: Socket;
  #finishing: NodeJS.Timeout | undefined;
  #held = false;
  #ended = false;

  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      if (this.#ended) return;
      this.#finishing?.refresh();
      if (!this.push(chunk)) {
        this.#held = true;
        socket.pause();
      }
    });
    socket.on("end", () => this.#end());
    socket.on("close", () => this.#end());
    socket.on("error", () => this.#end());
  }

  /** The process has ended. */
  finish(): void {
    if (this.#ended || this.#finishing !== undefined) return;
    const onSilence = () => {
      const seen = this.#socket.bytesRead;
      // The timer may come first after a busy moment: what is already in the pipe is read before this runs.
      setImmediate(() => {
        if (this.#held || this.#socket.bytesRead !== seen) this.#finishing?.refresh();
        else this.#end();
      });
    };
    this.#finishing = setTimeout(onSilence, SILENCE_MS);
  }

  override _read(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#finishing?.refresh();
    this.#socket.resume();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#end();
    done(error);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#finishing);
    if (!this.destroyed) this.push(null);
    this.#held = false;
    this.#socket.resume();
  }
}
