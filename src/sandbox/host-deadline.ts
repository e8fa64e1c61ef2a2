import { hasStarted } from "./machine.ts";
import type { HostLink } from "./host-link.ts";
import { timeoutOf } from "./describe.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { overRestarts } from "./over-restarts.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

/** The host ends a container by itself this long after the object should have. */
const SLACK_MS = 15_000;
const RETRY_MS = 5_000;

/** How long the host lets the container of a sandbox run. */
export const hostLifetimeMs = (record: SandboxRecord): number => timeoutOf(record) * 1000 + SLACK_MS;

/**
 * Keeps the deadline of the host, which holds also when there is no control plane, with that of the sandbox. A new one is
 * told first and written down once the host has it; whatever happens in between, the timer tells the one that is written down.
 */
export class HostDeadline {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #host: HostLink;
  readonly #now: () => number;
  #last: Promise<void> = Promise.resolve();

  constructor(lifecycle: Lifecycle, timers: Timers, host: HostLink, now: () => number) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#host = host;
    this.#now = now;
  }

  /**
   * Tells the host of another lifetime, in seconds, and then has it written down by `commit`. Throws `backend_unavailable` and
   * changes nothing where the host does not answer.
   */
  move(timeout: number, commit: () => void): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#isStarted) {
        this.#timers.set("deadline", this.#now() + RETRY_MS);
        await this.#tell(timeout);
      }
      commit();
      this.#timers.clear("deadline");
    });
  }

  /** Tells the host of the deadline that is written down, until it has it. Never throws. */
  confirm(): Promise<void> {
    return this.#inTurn(async () => {
      this.#timers.set("deadline", this.#now() + RETRY_MS);
      try {
        if (this.#isStarted) await this.#tell(timeoutOf(this.#lifecycle.record!));
        this.#timers.clear("deadline");
      } catch (error) {
        console.error(`The host of ${this.#lifecycle.record?.sandboxId} has not taken its deadline yet.`, error);
      }
    });
  }

  /** One after the other: what is told last is what is written down. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  get #isStarted(): boolean {
    const { record } = this.#lifecycle;
    return record !== undefined && hasStarted(record.state);
  }

  async #tell(timeout: number): Promise<void> {
    const record = this.#lifecycle.record!;
    const revision = record.deadlineRevision + 1;
    this.#lifecycle.update({ deadlineRevision: revision }, false);
    const endsAt = (record.startedAt ?? this.#now()) + timeout * 1000;
    await overRestarts(this.#host, this.#now, () => {
      const remainingMs = Math.max(0, endsAt - this.#now()) + SLACK_MS;
      return this.#host.open().setDeadline({ revision, remainingMs });
    });
  }
}
