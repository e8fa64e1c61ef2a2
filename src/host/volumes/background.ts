import type { Mount } from "./mount.ts";

const MIN_PAUSE_MS = 5_000;
const MAX_PAUSE_MS = 300_000;
/** How many times as long as the last look took the next one is put off. */
const SCAN_PAUSES = 20;
/** The same of all that was done. */
const COMMIT_PAUSES = 5;

/** Commits a mount every few seconds, so that others see what its sandbox writes, and little is lost with this machine. */
export class BackgroundCommits {
  readonly #mount: Mount;
  readonly #minPauseMs: number;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #isOver = false;

  constructor(mount: Mount, minPauseMs = MIN_PAUSE_MS) {
    this.#mount = mount;
    this.#minPauseMs = minPauseMs;
    if (!mount.spec.read_only) this.#arm(minPauseMs);
  }

  /** One that is under way goes on. */
  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #arm(pauseMs: number): void {
    if (this.#isOver) return;
    this.#timer = setTimeout(() => void this.#commit(), Math.min(pauseMs, MAX_PAUSE_MS));
    this.#timer.unref();
  }

  async #commit(): Promise<void> {
    // Whoever is at it does the same.
    if (this.#mount.isBusy) return this.#arm(this.#minPauseMs);
    const begin = performance.now();
    try {
      const { scanMs } = await this.#mount.commitMeanwhile();
      this.#failures = 0;
      const tookMs = performance.now() - begin;
      this.#arm(Math.max(this.#minPauseMs, SCAN_PAUSES * scanMs, COMMIT_PAUSES * tookMs));
    } catch (error) {
      if (this.#failures++ === 0) console.error("sandbar host:", (error as Error).message);
      this.#arm(this.#minPauseMs * 2 ** Math.min(this.#failures, 10));
    }
  }
}
