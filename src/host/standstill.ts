/** Turns of what changes a container and of the snapshots that hold it still: neither meets the other in the middle. */
export class Standstill {
  /** Settles when no snapshot holds the container still. */
  over: Promise<unknown> = Promise.resolve();
  readonly #changes = new Set<Promise<unknown>>();

  /** Changes something while nothing holds the container still; the next snapshot waits for that. */
  async change<T>(work: () => Promise<T>): Promise<T> {
    for (let seen; seen !== this.over;) await (seen = this.over);
    const change = work();
    this.#changes.add(change);
    try {
      return await change;
    } finally {
      this.#changes.delete(change);
    }
  }

  /** Holds the container still, one after the other, until the work is done or has called `moves`. */
  async hold<T>(work: (moves: () => void) => Promise<T>): Promise<T> {
    const own = Promise.withResolvers<void>();
    const before = this.over;
    this.over = Promise.all([before, own.promise]);
    try {
      await before;
      await Promise.allSettled(this.#changes);
      return await work(own.resolve);
    } finally {
      own.resolve();
    }
  }
}
