import type { Lifecycle } from "./lifecycle.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 10_000;

/**
 * Carries the record to the catalog. What is not there yet is known by the versions in the record, so a
 * crash loses nothing: the timer tries again until the catalog has the newest.
 */
export class Outbox {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #publish: (record: SandboxRecord) => Promise<void>;
  readonly #now: () => number;
  #flushing: Promise<void> | undefined;
  /** Those who wait until the catalog has a version. */
  readonly #waiting = new Map<() => void, number>();
  #retryMs = FIRST_RETRY_MS;

  constructor(
    lifecycle: Lifecycle,
    timers: Timers,
    publish: (record: SandboxRecord) => Promise<void>,
    now: () => number,
  ) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#publish = publish;
    this.#now = now;
  }

  /** Whether the catalog does not have the present version. */
  get isBehind(): boolean {
    const { record } = this.#lifecycle;
    return record !== undefined && record.indexedVersion < record.version;
  }

  /** Whether the catalog has the sandbox at all. */
  get hasPublished(): boolean {
    return (this.#lifecycle.record?.indexedVersion ?? 0) > 0;
  }

  /** Makes sure that the catalog will have the present version, whatever happens to this object. */
  schedule(): void {
    this.#timers.set("outbox", this.#now() + this.#retryMs);
  }

  /**
   * Publishes until the catalog is up to date. Resolves as soon as it has what is the present version now: what changes
   * meanwhile is waited for by whoever changes it. Never throws: a failure is tried again by the timer.
   */
  async flush(): Promise<void> {
    const version = this.#lifecycle.record?.version ?? 0;
    this.#flushing ??= this.#run().finally(() => {
      this.#flushing = undefined;
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(resolve, version);
    await Promise.race([this.#flushing, promise]);
    this.#waiting.delete(resolve);
  }

  async #run(): Promise<void> {
    for (;;) {
      // What changes in one go, as from started to ready, is published once.
      await Promise.resolve();
      const record = this.#lifecycle.record;
      if (!record) return this.#timers.clear("outbox");
      if (record.indexedVersion >= record.version) {
        this.#retryMs = FIRST_RETRY_MS;
        return this.#timers.clear("outbox");
      }
      try {
        await this.#publish(record);
      } catch (error) {
        console.error(`The catalog could not be written for ${record.sandboxId}; it is tried again.`, error);
        this.#timers.set("outbox", this.#now() + this.#retryMs);
        this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
        return;
      }
      if (this.#lifecycle.record) this.#lifecycle.update({ indexedVersion: record.version }, false);
      for (const [resolve, version] of this.#waiting) if (version <= record.version) resolve();
    }
  }
}
