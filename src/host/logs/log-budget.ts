import type { ProcessLog } from "./process-log.ts";

/** Adding up thousands of logs takes time; what is written meanwhile may exceed the bound. */
const ENFORCE_INTERVAL_MS = 100;

/** Bounds what several logs keep on disk together: the oldest ended log gives way first, then the largest. */
export class LogBudget {
  readonly #limitBytes: number;
  readonly #logs = new Set<ProcessLog>();
  #enforcedAt = -Infinity;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  add(log: ProcessLog): void {
    this.#logs.add(log);
  }

  delete(log: ProcessLog): void {
    this.#logs.delete(log);
  }

  get keptBytes(): number {
    let kept = 0;
    for (const log of this.#logs) kept += log.keptBytes;
    return kept;
  }

  /** Makes room where too much is kept. */
  enforce(): void {
    const now = performance.now();
    if (now - this.#enforcedAt < ENFORCE_INTERVAL_MS) return;
    this.#enforcedAt = now;
    let kept = this.keptBytes;
    for (const log of this.#logs) {
      if (kept <= this.#limitBytes) return;
      if (!log.hasEnded || log.keptBytes === 0) continue;
      kept -= log.keptBytes;
      log.discard(0);
    }
    if (kept <= this.#limitBytes) return;
    const largest = [...this.#logs].reduce((a, b) => (b.keptBytes > a.keptBytes ? b : a));
    largest.discard(largest.keptBytes / 2);
  }
}
