import { ApiError, hasCode } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import type { HostLink } from "./host-link.ts";
import { endedError, type Lifecycle } from "./lifecycle.ts";
import type { Scope } from "./rpc.ts";
import type { SandboxRecord } from "./store.ts";
import type { Watch } from "./watch.ts";

/** What is asked of the container: it counts as activity from its beginning to its end. */
export class Operations {
  readonly #lifecycle: Lifecycle;
  readonly #host: HostLink;
  readonly #watch: Watch;
  #inFlight = 0;

  constructor(lifecycle: Lifecycle, host: HostLink, watch: Watch) {
    this.#lifecycle = lifecycle;
    this.#host = host;
    this.#watch = watch;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** The record, for those of its environment; for others there is no such sandbox. Without a scope for anybody. */
  record(scope?: Scope): Readonly<SandboxRecord> {
    const { record } = this.#lifecycle;
    if (!record || (scope && record.environment !== scope.environment)) throw new ApiError("sandbox_not_found");
    return record;
  }

  /**
   * Runs one operation. A container that turns out to be gone ends the sandbox. With `countedMs` it counts as activity for so
   * long at most.
   */
  async run<T>(scope: Scope | undefined, operation: () => Promise<T>, countedMs?: number): Promise<T> {
    this.record(scope);
    const uncount = this.#count(countedMs);
    try {
      this.#lifecycle.touch();
      return await operation();
    } catch (error) {
      if (hasCode(error, "backend_unavailable")) await this.#host.relocate().catch(() => undefined);
      if (hasCode(error, "sandbox_ended")) {
        await this.#watch.check().catch(() => undefined);
        const record = this.record();
        if (!isLive(record.state)) throw endedError(record);
      }
      throw error;
    } finally {
      uncount();
      this.#lifecycle.touch();
    }
  }

  #count(limitMs: number | undefined): () => void {
    let isCounted = true;
    const uncount = () => {
      clearTimeout(timer);
      if (isCounted) this.#inFlight -= 1;
      isCounted = false;
    };
    const timer = limitMs === undefined ? undefined : setTimeout(uncount, limitMs);
    this.#inFlight += 1;
    return uncount;
  }
}
