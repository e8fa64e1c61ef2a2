import { type Backend, type HostPlacement, type Placement } from "../backends/backend.ts";
import type { OpenBackend } from "../backends/index.ts";
import { ApiError, type ErrorCode } from "../contract/errors.ts";
import { hostAway } from "../contract/host-answer.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { SandboxRecord } from "./store.ts";

/** The way to the sandbox's container, where it was placed. */
export class HostLink {
  readonly #lifecycle: Lifecycle;
  readonly #openBackend: () => OpenBackend;
  readonly #locate: (hostId: string) => Promise<HostPlacement | undefined>;
  #opened: { backend: Backend; generation: number; placement: Placement } | undefined;

  constructor(
    lifecycle: Lifecycle,
    openBackend: () => OpenBackend,
    locate: (hostId: string) => Promise<HostPlacement | undefined>,
  ) {
    this.#lifecycle = lifecycle;
    this.#openBackend = openBackend;
    this.#locate = locate;
  }

  /** The backend, also of a sandbox that has ended. */
  open(record: Readonly<SandboxRecord> | undefined = this.#lifecycle.record): Backend {
    if (!record?.placement) {
      throw new ApiError("backend_unavailable", { detail: "The sandbox is on no host.", retryAfter: 1 });
    }
    const { sandboxId, generation, placement } = record;
    if (this.#opened?.generation !== generation || this.#opened.placement !== placement) {
      const backend = this.#openBackend()(sandboxId, generation, placement, () => this.#whereIsHost());
      this.#opened = { backend, generation, placement };
    }
    return this.#opened.backend;
  }

  /** The backend once the container runs. Throws `sandbox_ended` when there will be none any more. */
  running(): Promise<Backend> {
    return this.#lifecycle.running((record) => this.open(record));
  }

  /** Looks up how the sandbox's host is reached now: it may have another address, or key. True when that is news. */
  async relocate(): Promise<boolean> {
    const before = this.#lifecycle.record?.placement;
    if (before?.kind !== "host") return false;
    const now = await this.#locate(before.hostId);
    const current = this.#lifecycle.record?.placement;
    if (!now || current?.kind !== "host" || current.hostId !== now.hostId) return false;
    const { url, keyVersion = 1 } = now;
    const isNews = (than: HostPlacement) => url !== than.url || keyVersion !== (than.keyVersion ?? 1);
    if (isNews(current)) this.#lifecycle.update({ placement: { ...current, url, keyVersion } }, false);
    return isNews(before);
  }

  async #whereIsHost(): Promise<HostPlacement | undefined> {
    await this.relocate();
    const placement = this.#lifecycle.record?.placement;
    return placement?.kind === "host" ? placement : undefined;
  }
}

/** What failed at the host is tried there again only where it has another address or key by now. */
export async function requireNews(host: HostLink, failure: ErrorCode): Promise<void> {
  if (failure !== "backend_unavailable") throw new ApiError(failure);
  if (!(await host.relocate().catch(() => false))) throw hostAway(undefined);
}
