import { setImmediate } from "node:timers/promises";

const SLICE_MS = 8;

/** Work on many small files that shares this thread with everybody else's: after each slice of time the others have their turn. */
export class Slices {
  #since = performance.now();

  get isOver(): boolean {
    return performance.now() - this.#since >= SLICE_MS;
  }

  async next(): Promise<void> {
    await setImmediate();
    this.#since = performance.now();
  }
}
