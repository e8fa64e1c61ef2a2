import { timeoutOf } from "./describe.ts";
import type { HostLink } from "./host-link.ts";
import { HostSetting } from "./host-setting.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { overRestarts } from "./over-restarts.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

/** The host ends a container by itself this long after the object should have. */
const SLACK_MS = 15_000;

/** How long the host lets the container of a sandbox run. */
export const hostLifetimeMs = (record: SandboxRecord): number => timeoutOf(record) * 1000 + SLACK_MS;

/** Keeps the deadline of the host, which holds also when there is no control plane, with that of the sandbox. */
export class HostDeadline {
  readonly #lifecycle: Lifecycle;
  readonly #host: HostLink;
  readonly #setting: HostSetting;
  readonly #now: () => number;

  constructor(lifecycle: Lifecycle, timers: Timers, host: HostLink, now: () => number) {
    this.#lifecycle = lifecycle;
    this.#host = host;
    this.#setting = new HostSetting(lifecycle, timers, "deadline", now);
    this.#now = now;
  }

  /**
   * Tells the host of another lifetime, in seconds, and then has it written down by `commit`. Throws `backend_unavailable` and
   * changes nothing where the host does not answer.
   */
  move(timeout: number, commit: () => void | Promise<void>): Promise<void> {
    return this.#setting.change(() => this.#tell(timeout), commit);
  }

  /** Tells the host of the deadline that is written down, until it has it. Never throws. */
  confirm(): Promise<void> {
    return this.#setting.confirm(() => this.#tell(timeoutOf(this.#lifecycle.record!)));
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
