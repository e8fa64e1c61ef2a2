/** So many writes a second, in the long run: each costs. */
const WRITES_PER_SECOND = 50;
/** So many at once, after a quiet while. */
const BURST = 20;

/**
 * How often the output of a process is written to the storage: a token bucket. What is said now and then is written at once, and
 * so is what answers somebody's input; what is said without end is put together.
 */
export class WritePace {
  #left = BURST;
  #countedAt = Date.now();

  /** One more may be written at once: somebody waits for an answer. */
  grant(): void {
    this.#left = Math.min(BURST, this.#now() + 1);
  }

  /** Counts a write. */
  wrote(): void {
    this.#left = Math.max(0, this.#now() - 1);
  }

  /** Until the next write is due, in milliseconds. */
  get waitMs(): number {
    return Math.max(0, ((1 - this.#now()) * 1_000) / WRITES_PER_SECOND);
  }

  #now(): number {
    const now = Date.now();
    this.#left = Math.min(BURST, this.#left + ((now - this.#countedAt) * WRITES_PER_SECOND) / 1_000);
    this.#countedAt = now;
    return this.#left;
  }
}
