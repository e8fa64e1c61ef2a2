import type { Writable } from "node:stream";
import type { InputSink } from "../process/process-input.ts";

/** The input of a process as a stream of this machine. */
export class WritableSink implements InputSink {
  readonly #writable: Writable;
  #hasEnded = false;
  #stopWaiting: (() => void) | undefined;

  /** `ended` resolves when the process has ended: nobody reads any more. */
  constructor(writable: Writable, ended: Promise<unknown>) {
    this.#writable = writable;
    void ended.then(() => {
      this.#hasEnded = true;
      this.#stopWaiting?.();
    });
    writable.on("error", () => {});
  }

  async write(bytes: Uint8Array): Promise<boolean> {
    if (this.#hasEnded) return false;
    // No race of promises: one that outlives thousands of pieces would remember each.
    await new Promise<void>((resolve) => {
      this.#stopWaiting = resolve;
      this.#writable.write(bytes, () => resolve());
    });
    return !this.#hasEnded && !this.#writable.destroyed;
  }

  end(): void {
    this.#writable.end();
  }
}
