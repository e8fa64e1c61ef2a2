import type { Backend } from "../backends/backend.ts";
import { hasCode } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { hasStarted } from "./machine.ts";
import { KEPT_AFTER_END_MS } from "./process-output.ts";
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
  readonly #open: () => Backend;
  readonly #now: () => number;

  constructor(lifecycle: Lifecycle, timers: Timers, watch: Watch, open: () => Backend, now: () => number) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#watch = watch;
    this.#open = open;
    this.#now = now;
  }

  /** Whether there is such a container, and it is to run. */
  get isDue(): boolean {
    const { record } = this.#lifecycle;
    return record?.placement?.kind === "cloudflare" && hasStarted(record.state);
  }

  /** Sets the timer of the next look, where there is something to look at. */
  arm(): void {
    if (this.isDue) this.#timers.set("container", this.#now() + LOOK_MS);
  }

  /** The sandbox has ended: what its processes wrote is kept for a while. */
  ended(): void {
    if (this.#lifecycle.record?.placement?.kind !== "cloudflare") return;
    this.#timers.set("container", this.#now() + KEPT_AFTER_END_MS);
  }

  /** The timer: looks, or lets go of what is no longer kept. */
  async fire(): Promise<void> {
    const { record } = this.#lifecycle;
    if (!record || isLive(record.state)) return this.check();
    try {
      await this.#open().forget();
    } catch (error) {
      console.error("The output of a sandbox that has ended is left where it is.", error);
    }
    this.#timers.clear("container");
  }

  /** Looks at a container that is to run. One that does not answer is looked at again. */
  async check(): Promise<void> {
    try {
      await this.#watch.check();
    } catch (error) {
      if (!hasCode(error, "backend_unavailable"))
        console.error("A container could not be looked at; it is tried again.", error);
    }
    if (this.isDue) this.arm();
  }
}
