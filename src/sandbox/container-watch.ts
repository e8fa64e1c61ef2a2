import { hasCode } from "../contract/errors.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { hasStarted } from "./machine.ts";
import type { Timers } from "./timers.ts";
import type { Watch } from "./watch.ts";

/** How long the end of a container may go unnoticed while its object sleeps. */
const LOOK_MS = 60_000;

/**
 * Looks after a container beside the object. No host reports its end, and waiting for it would keep the object from sleeping:
 * while something runs in it, its end is noticed at once, and otherwise by this look from time to time.
 */
export class ContainerWatch {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #watch: Watch;
  readonly #now: () => number;

  constructor(lifecycle: Lifecycle, timers: Timers, watch: Watch, now: () => number) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#watch = watch;
    this.#now = now;
  }

  /** Whether there is such a container, and it is to run. */
  get isDue(): boolean {
    const { record } = this.#lifecycle;
    return record?.placement?.kind === "cloudflare" && hasStarted(record.state);
  }

  /** Sets the timer of the next look, if there is to be one. */
  arm(): void {
    if (this.isDue) this.#timers.set("container", this.#now() + LOOK_MS);
    else this.#timers.clear("container");
  }

  /** Looks now. A container that does not answer is looked at again. */
  async look(): Promise<void> {
    try {
      await this.#watch.check();
    } catch (error) {
      if (!hasCode(error, "backend_unavailable"))
        console.error("A container could not be looked at; it is tried again.", error);
    }
    this.arm();
  }
}
