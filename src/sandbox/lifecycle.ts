import { hostIdOf, type Backend, type Placement } from "../backends/backend.ts";
import { ApiError } from "../contract/errors.ts";
import { isLive, type SandboxState } from "../contract/sandbox.ts";
import type { SandboxEvent } from "../contract/sandbox-event.ts";
import { isoOf, timeoutOf } from "./describe.ts";
import type { EventLog } from "./event-log.ts";
import { hasStarted, transition, type End, type Happening } from "./machine.ts";
import type { SandboxRecord, SandboxStore } from "./store.ts";
import type { Timers } from "./timers.ts";

/** How long a call waits for the start before it says 503. A start may pull an image. */
const START_WAIT_MS = 120_000;
/** Activity that would put the idle time off by less than this, or by less than a tenth of it, is not written down. */
const IDLE_RESOLUTION_MS = 1000;

export interface LifecycleParts {
  store: SandboxStore;
  events: EventLog;
  timers: Timers;
  effects: LifecycleEffects;
  /** Whether a client's socket is open: then there is no idle time at all. */
  isAttached: () => boolean;
  now: () => number;
}

export interface LifecycleEffects {
  /** The record changed in a way that lists show. */
  changed(): void;
  /** The container runs from now on. */
  started(): void;
  /** The sandbox has ended; what it had is to be removed. */
  ended(): void;
}

/** Owns the record of the sandbox: every change of state goes through `apply`, or `schedule` for its way to a host. */
export class Lifecycle {
  readonly #store: SandboxStore;
  readonly #events: EventLog;
  readonly #timers: Timers;
  readonly #effects: LifecycleEffects;
  readonly #isAttached: () => boolean;
  readonly #now: () => number;
  readonly #waiting = new Set<() => void>();
  #touches = 0;

  constructor({ store, events, timers, effects, isAttached, now }: LifecycleParts) {
    this.#store = store;
    this.#events = events;
    this.#timers = timers;
    this.#effects = effects;
    this.#isAttached = isAttached;
    this.#now = now;
  }

  get record(): Readonly<SandboxRecord> | undefined {
    return this.#store.record;
  }

  /** Begins: there is a sandbox from now on. */
  begin(record: SandboxRecord): void {
    this.#store.begin(record);
    this.#note({ type: record.state }, record.createdAt);
  }

  /** A client changed the record. The end stays the last event. */
  edit(changes: Partial<SandboxRecord>, event: Omit<SandboxEvent, "type" | "at">): void {
    this.update(changes);
    if (isLive(this.#required().state)) this.#note({ type: "updated", ...event });
  }

  /** The sandbox is to start somewhere, as its next generation. */
  schedule(placement: Placement, generation: number): void {
    const record = this.#required();
    // Taken up where it was: its host may have come back at another address.
    if (record.generation === generation) return this.update({ placement }, false);
    const state = transition(record.state, { kind: "scheduled" }).kind === "moved" ? "scheduled" : record.state;
    this.update({ placement, generation, state });
    const hostId = hostIdOf(placement);
    this.#note({
      type: "scheduled",
      backend: record.backend,
      ...(hostId !== undefined && { host_id: hostId }),
      generation,
    });
  }

  /** Changes the record; `visible` when lists show the difference. */
  update(changes: Partial<SandboxRecord>, visible = true): void {
    const record = this.#required();
    this.#store.save({ ...record, ...changes, version: record.version + (visible ? 1 : 0) });
    if (visible) this.#effects.changed();
  }

  /** Lets an event happen. False when it changed nothing. */
  apply(happening: Happening, changes: Partial<SandboxRecord> = {}): boolean {
    const record = this.#required();
    const next = transition(record.state, happening);
    if (next.kind === "ignored") return false;
    const now = this.#now();
    if (next.kind === "ended") {
      this.#timers.clear("start", "probe", "lifetime", "deadline", "network", "idle", "container");
      this.update({ ...changes, state: next.state, end: next.end, finishedAt: now });
      this.#note(endOf(next.state, next.end), now);
      this.#effects.ended();
    } else {
      this.update({
        ...changes,
        state: next.state,
        ...(next.state === "started" && { startedAt: now }),
        ...(next.state === "ready" && { readyAt: now }),
      });
      this.#note({ type: next.state }, now);
      if (next.state === "started") this.#onStarted(now);
    }
    return true;
  }

  /** Writes down what happened, and tells all who wait for something to happen. */
  #note(event: Omit<SandboxEvent, "at">, at = this.#now()): void {
    this.#events.append({ ...event, at: isoOf(at) });
    for (const wake of this.#waiting) wake();
  }

  #onStarted(now: number): void {
    const record = this.#required();
    this.#timers.clear("start");
    this.#timers.set("lifetime", now + timeoutOf(record) * 1000);
    this.touch();
    this.#effects.started();
  }

  /** How often there was activity in this life of the object. */
  get touches(): number {
    return this.#touches;
  }

  /** Counts as activity: the idle time begins anew. */
  touch(): void {
    const record = this.#required();
    this.#touches += 1;
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
      await this.nextEvent(left);
    }
  }

  /** Waits until something happens, or for so long. */
  nextEvent(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.#waiting.add(done);
    });
  }

  #required(): SandboxRecord {
    const record = this.#store.record;
    if (!record) throw new ApiError("sandbox_not_found");
    return record;
  }
}

function endOf(type: SandboxState, { finishReason, returncode, error }: End): Omit<SandboxEvent, "at"> {
  return {
    type,
    finish_reason: finishReason,
    ...(returncode !== null && { returncode }),
    ...(error !== undefined && { error }),
  };
}

export function endedError(record: SandboxRecord): ApiError {
  const why = record.end?.finishReason ?? "unknown";
  const error = record.end?.error === undefined ? "" : `: ${record.end.error}`;
  return new ApiError("sandbox_ended", { detail: `The sandbox has ended (${why})${error}` });
}
