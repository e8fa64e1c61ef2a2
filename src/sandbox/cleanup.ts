import type { Backend } from "../backends/backend.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { ProcessesAtEnd } from "./processes-at-end.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

const FIRST_RETRY_MS = 5000;
const LAST_RETRY_MS = 300_000;
/** After this long the host's own reconciliation is left to do it: it reaps what no sandbox claims. */
const GIVE_UP_MS = 86_400_000;

/** Removes what an ended sandbox has on its host, until it is gone. */
export class Cleanup {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #open: () => Backend;
  readonly #processes: ProcessesAtEnd;
  readonly #keep: () => Promise<void>;
  readonly #release: (record: SandboxRecord) => Promise<void>;
  readonly #now: () => number;
  #running: Promise<void> | undefined;

  /** `keep`: keeps what is to be kept of the container, before it goes. `release`: gives its place to others, once it has gone. */
  constructor(
    lifecycle: Lifecycle,
    timers: Timers,
    open: () => Backend,
    processes: ProcessesAtEnd,
    keep: () => Promise<void>,
    release: (record: SandboxRecord) => Promise<void>,
    now: () => number,
  ) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#open = open;
    this.#processes = processes;
    this.#keep = keep;
    this.#release = release;
    this.#now = now;
  }

  /** Tries once now; the timer tries again while something may be left. Never throws. */
  run(): Promise<void> {
    this.#timers.set("cleanup", this.#now() + this.#retryMs);
    this.#running ??= this.#attempt().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** A host that has been away for long is asked less and less often: when it is back, it asks by itself. */
  get #retryMs(): number {
    const endedForMs = this.#now() - (this.#lifecycle.record?.finishedAt ?? 0);
    return Math.min(LAST_RETRY_MS, Math.max(FIRST_RETRY_MS, endedForMs));
  }

  async #attempt(): Promise<void> {
    const record = this.#lifecycle.record;
    if (!record || record.finishedAt === undefined || record.isCleanedUp) return this.#timers.clear("cleanup");
    const isHopeless = this.#now() > record.finishedAt + GIVE_UP_MS;
    // A host that is lost is offered to nobody, and when it is back it tells what it still has: nothing is waited for.
    if (!record.placement || record.end?.finishReason === "host_lost") await this.#giveUpPlace(record);
    // Before the stop: a process that ended by itself is told from one that this takes down.
    await this.#processes.settle();
    try {
      // After so long it has failed, and that is noted.
      await this.#keep().catch((error: unknown) => {
        if (!isHopeless) throw error;
      });
      if (record.placement && !isHopeless) await this.#open().stop();
      await this.#release(record);
    } catch (error) {
      console.error(`${record.sandboxId} could not be removed from its host yet.`, error);
      return;
    }
    await this.#processes.recount();
    this.#lifecycle.update({ isCleanedUp: true }, false);
    this.#timers.clear("cleanup");
  }

  /** Is tried again at the end. */
  async #giveUpPlace(record: SandboxRecord): Promise<void> {
    await this.#release(record).catch(() => undefined);
  }
}
