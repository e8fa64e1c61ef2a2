import { isLive } from "../contract/sandbox.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Outbox } from "./outbox.ts";
import type { SandboxStore } from "./store.ts";
import type { Timers } from "./timers.ts";

const RETRY_MS = 60_000;

export interface RetentionParts {
  storage: DurableObjectStorage;
  store: SandboxStore;
  lifecycle: Lifecycle;
  timers: Timers;
  outbox: Outbox;
  /** Removes the sandbox from the catalog. Safe to repeat. */
  unpublish: (sandboxId: string) => Promise<void>;
  /** How long an ended sandbox stays readable, in milliseconds. */
  keptMs: number;
  now: () => number;
}

/** Forgets a sandbox that ended long ago: what the catalog knows of it, and then all that stands here. */
export class Retention {
  readonly #parts: RetentionParts;

  constructor(parts: RetentionParts) {
    this.#parts = parts;
  }

  /** The sandbox has ended. */
  arm(): void {
    const { lifecycle, timers, keptMs } = this.#parts;
    const finishedAt = lifecycle.record?.finishedAt;
    if (finishedAt !== undefined) timers.set("retention", finishedAt + keptMs);
  }

  /** The timer. Throws when the catalog does not take it: then it is tried again, and nothing is forgotten before. */
  async fire(): Promise<void> {
    const { storage, store, lifecycle, timers, outbox, unpublish, keptMs, now } = this.#parts;
    const { record } = lifecycle;
    if (!record || record.finishedAt === undefined || isLive(record.state)) return timers.clear("retention");
    // It may be kept for longer since the timer was set.
    if (record.finishedAt + keptMs > now()) return this.arm();
    // What is left on its host is removed first, or given up after a day.
    if (!record.isCleanedUp) return timers.set("retention", now() + RETRY_MS);
    await outbox.flush();
    if (outbox.isBehind) throw new Error("The catalog does not have the newest version yet.");
    // From here on there is no such sandbox: nothing of it reaches the catalog any more.
    store.drop();
    try {
      await unpublish(record.sandboxId);
    } catch (error) {
      store.restore(record);
      throw error;
    }
    timers.drop();
    await storage.deleteAll();
  }
}
