import type { Lifecycle } from "./lifecycle.ts";
import { hasStarted } from "./machine.ts";
import type { Timer, Timers } from "./timers.ts";

const RETRY_MS = 5_000;

/**
 * Something of the sandbox that its host holds too, and that is to be there what it is here. Another value is told first and written
 * down once the host has it; whatever happens in between, the timer tells the one that is written down.
 */
export class HostSetting {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #timer: Timer;
  readonly #now: () => number;
  #last: Promise<unknown> = Promise.resolve();

  constructor(lifecycle: Lifecycle, timers: Timers, timer: Timer, now: () => number) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#timer = timer;
    this.#now = now;
  }

  get isStarted(): boolean {
    const { record } = this.#lifecycle;
    return record !== undefined && hasStarted(record.state);
  }

  /**
   * Has another value told by `tell`, where the sandbox has started, and then written down by `commit`; where it has not, `ahead` says
   * whether it may start with that. Throws what they throw; then nothing is written down.
   */
  change(
    tell: () => Promise<void>,
    commit: () => void | Promise<void>,
    ahead: () => Promise<void> = async () => undefined,
  ): Promise<void> {
    return this.inTurn(async () => {
      if (!this.isStarted) await ahead();
      const isTold = this.isStarted;
      if (isTold) {
        this.#timers.set(this.#timer, this.#now() + RETRY_MS);
        await tell();
      }
      try {
        await commit();
      } catch (error) {
        // The host has what is not so.
        if (isTold) this.#timers.set(this.#timer, this.#now());
        throw error;
      }
      // It may have started meanwhile, with what was written down before.
      if (isTold || !this.isStarted) this.#timers.clear(this.#timer);
      else this.#timers.set(this.#timer, this.#now());
    });
  }

  /** Has what is written down told by `tell`, until the host has it. Never throws. */
  confirm(tell: () => Promise<void>): Promise<void> {
    return this.inTurn(async () => {
      this.#timers.set(this.#timer, this.#now() + RETRY_MS);
      try {
        if (this.isStarted) await tell();
        this.#timers.clear(this.#timer);
      } catch (error) {
        // It may have ended meanwhile.
        if (!this.isStarted) return;
        console.error(`The host of ${this.#lifecycle.record?.sandboxId} has not taken its ${this.#timer} yet.`, error);
      }
    });
  }

  /** One after the other: what is told last is what is written down. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
