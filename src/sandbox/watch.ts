import type { Backend } from "../backends/backend.ts";
import { hasCode } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import { hasStarted } from "./machine.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { storeVolumes } from "./store-volumes.ts";
import type { Timers } from "./timers.ts";
import { within } from "./within.ts";

/** While a sandbox is busy its idle time is looked at again after at most this long. */
const MAX_IDLE_CHECK_MS = 10_000;
const UNREACHABLE_RETRY_MS = 5000;
/** Who reads a sandbox does not wait for its host for longer. */
const LOOK_MS = 1000;

/** Keeps the record true to the container: its end, its loss, and whether it idles. */
export class Watch {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #open: () => Backend;
  readonly #isAttached: () => boolean;
  readonly #now: () => number;

  constructor(lifecycle: Lifecycle, timers: Timers, open: () => Backend, isAttached: () => boolean, now: () => number) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#open = open;
    this.#isAttached = isAttached;
    this.#now = now;
  }

  /** Asks the host what became of the container and lets that happen. Throws when the host does not answer. */
  async check(): Promise<void> {
    const before = this.#lifecycle.record;
    if (!before || !hasStarted(before.state)) return;
    const status = await this.#open().inspect();
    if (this.#lifecycle.record?.generation !== before.generation) return;
    if (status.kind === "gone" || status.generation !== before.generation) {
      // Its host may have ended it for that, and forgotten it since.
      if (this.#isLifetimeOver) this.#lifecycle.apply({ kind: "lifetime_over" });
      this.#lifecycle.apply({ kind: "host_lost", error: "The container is gone from its host." });
    } else if (status.kind === "exited") {
      this.#lifecycle.apply({ kind: "container_exited", exit: status.exit });
    }
  }

  /** The lifetime timer: ends the sandbox, unless it was given more time meanwhile. */
  async checkLifetime(): Promise<void> {
    await storeVolumes(this.#lifecycle.record, this.#open);
    if (this.#isLifetimeOver) this.#lifecycle.apply({ kind: "lifetime_over" });
  }

  get #isLifetimeOver(): boolean {
    return this.#now() >= (this.#timers.dueAt("lifetime") ?? Infinity);
  }

  /**
   * When the sandbox ends if nothing is asked of it any more, as its host says now; undefined while something goes on. No host
   * is waited for for long: then it is what is known here.
   */
  async idleExpiresAt(operationsInFlight: number): Promise<number | undefined> {
    const { record } = this.#lifecycle;
    const idleMs = (record?.create.idle_timeout ?? 0) * 1000;
    if (!record || idleMs === 0 || !hasStarted(record.state)) return undefined;
    if (operationsInFlight > 0 || this.#isAttached()) return undefined;
    const status = await within(LOOK_MS, async () => this.#open().inspect());
    const dueAt = this.#timers.dueAt("idle");
    if (status === undefined || dueAt === undefined) return dueAt;
    if (status.kind !== "running") {
      await this.check().catch(() => undefined);
      return undefined;
    }
    return status.busy ? undefined : Math.max(dueAt, this.#now() + idleMs - status.idle_ms);
  }

  /** The idle timer: ends the sandbox when nothing has gone on for its idle time, else looks again later. */
  async checkIdle(operationsInFlight: () => number): Promise<void> {
    const record = this.#lifecycle.record;
    const idleMs = (record?.create.idle_timeout ?? 0) * 1000;
    if (!record || idleMs === 0 || !hasStarted(record.state) || this.#isAttached()) {
      return this.#timers.clear("idle");
    }
    const lookAgainAt = this.#now() + Math.min(idleMs, MAX_IDLE_CHECK_MS);
    if (operationsInFlight() > 0) return this.#timers.set("idle", lookAgainAt);
    const touchesBefore = this.#lifecycle.touches;
    try {
      const status = await this.#open().inspect();
      if (status.kind !== "running") return await this.check();
      if (!isLive(this.#lifecycle.record!.state)) return;
      // Something was asked of the sandbox meanwhile, and has set the timer anew.
      if (this.#lifecycle.touches !== touchesBefore) return;
      if (status.busy) return this.#timers.set("idle", lookAgainAt);
      const leftMs = idleMs - status.idle_ms;
      if (leftMs > 0) return this.#timers.set("idle", this.#now() + leftMs);
      await storeVolumes(this.#lifecycle.record, this.#open);
      if (this.#lifecycle.touches !== touchesBefore) return;
      this.#lifecycle.apply({ kind: this.#isLifetimeOver ? "lifetime_over" : "idle_over" });
    } catch (error) {
      if (!hasCode(error, "backend_unavailable")) throw error;
      this.#timers.set("idle", this.#now() + UNREACHABLE_RETRY_MS);
    }
  }
}
