import type { Backend } from "../backends/backend.ts";
import { ApiError } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import { timeoutOf } from "./describe.ts";
import { hasStarted, transition, type SandboxEvent } from "./machine.ts";
import type { SandboxRecord, SandboxStore } from "./store.ts";
import type { Timers } from "./timers.ts";

/** How long a call waits for the start before it says 503. A start may pull an image. */
const START_WAIT_MS = 120_000;
/** Activity that would put the idle time off by less than this, or by less than a tenth of it, is not written down. */
const IDLE_RESOLUTION_MS = 1000;

export interface LifecycleEffects {
  /** The record changed in a way that lists show. */
  changed(): void;
  /** The container runs from now on. */
  started(): void;
  /** The sandbox has ended; what it had is to be removed. */
  ended(): void;
}

/** Owns the record of the sandbox: every change of state goes through `apply`. */
export class Lifecycle {
  readonly #store: SandboxStore;
  readonly #timers: Timers;
  readonly #effects: LifecycleEffects;
  readonly #isAttached: () => boolean;
  readonly #now: () => number;
  #waiting: (() => void)[] = [];

  /** `isAttached` tells whether a client's socket is open: then there is no idle time at all. */
  constructor(
    store: SandboxStore,
    timers: Timers,
    effects: LifecycleEffects,
    isAttached: () => boolean,
    now: () => number,
  ) {
    this.#store = store;
    this.#timers = timers;
    this.#effects = effects;
    this.#isAttached = isAttached;
    this.#now = now;
  }

  get record(): Readonly<SandboxRecord> | undefined {
    return this.#store.record;
  }

  /** Changes the record; `visible` when lists show the difference. */
  update(changes: Partial<SandboxRecord>, visible = true): void {
    const record = this.#required();
    this.#store.save({ ...record, ...changes, version: record.version + (visible ? 1 : 0) });
    if (visible) this.#effects.changed();
  }

  /** Lets an event happen. False when it changed nothing. */
  apply(event: SandboxEvent, changes: Partial<SandboxRecord> = {}): boolean {
    const record = this.#required();
    const next = transition(record.state, event);
    if (next.kind === "ignored") return false;
    const now = this.#now();
    if (next.kind === "ended") {
      this.#timers.clear("start", "probe", "lifetime", "idle", "container");
      this.update({ ...changes, state: next.state, end: next.end, finishedAt: now });
      this.#effects.ended();
    } else {
      this.update({
        ...changes,
        state: next.state,
        ...(next.state === "started" && { startedAt: now }),
        ...(next.state === "ready" && { readyAt: now }),
      });
      if (next.state === "started") this.#onStarted(now);
    }
    for (const wake of this.#waiting.splice(0)) wake();
    return true;
  }

  #onStarted(now: number): void {
    const record = this.#required();
    this.#timers.clear("start");
    this.#timers.set("lifetime", now + timeoutOf(record) * 1000);
    this.touch();
    this.#effects.started();
  }

  /** Counts as activity: the idle time begins anew. */
  touch(): void {
    const record = this.#required();
    if (record.create.idle_timeout === undefined || !hasStarted(record.state)) return;
    if (this.#isAttached()) return this.#timers.clear("idle");
    const idleMs = record.create.idle_timeout * 1000;
    const gained = this.#now() + idleMs - (this.#timers.dueAt("idle") ?? 0);
    if (gained >= Math.min(IDLE_RESOLUTION_MS, idleMs / 10)) this.#timers.set("idle", this.#now() + idleMs);
  }

  /** Waits until the container runs. Throws `sandbox_ended` when there will be none any more. */
  async running(open: (record: SandboxRecord) => Backend): Promise<Backend> {
    const giveUpAt = this.#now() + START_WAIT_MS;
    for (;;) {
      const record = this.#required();
      if (!isLive(record.state)) throw endedError(record);
      if (hasStarted(record.state)) return open(record);
      const left = giveUpAt - this.#now();
      if (left <= 0)
        throw new ApiError("start_timeout", { detail: "The sandbox is still being started.", retryAfter: 5 });
      await this.#nextChange(left);
    }
  }

  #nextChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #required(): SandboxRecord {
    const record = this.#store.record;
    if (!record) throw new ApiError("sandbox_not_found");
    return record;
  }
}

export function endedError(record: SandboxRecord): ApiError {
  const why = record.end?.finishReason ?? "unknown";
  const error = record.end?.error === undefined ? "" : `: ${record.end.error}`;
  return new ApiError("sandbox_ended", { detail: `The sandbox has ended (${why})${error}` });
}
