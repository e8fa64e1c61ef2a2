import { signHostPull } from "../contract/registry.ts";
import type { WarmSpec } from "../contract/host-protocol.ts";
import type { PoolContainer, Pools } from "./pools.ts";

/** So long one that was handed to a sandbox stays ordered, until that one's start reaches the host. */
const HANDING_MS = 30_000;

type GrantPull = (environment: string, repository: string) => Promise<string>;

interface Handed extends PoolContainer {
  until: number;
}

/** What hosts are told to have ready. */
export class WarmOrders {
  readonly #pools: Pools;
  readonly #signingSecret: string;
  /** By sandbox. Until its start has come to its host a report of that host must not have it removed. */
  readonly #handed = new Map<string, Handed>();

  constructor(pools: Pools, signingSecret: string) {
    this.#pools = pools;
    this.#signingSecret = signingSecret;
  }

  /** A sandbox takes it. */
  handed(taken: PoolContainer, now: number): void {
    this.#handed.set(taken.booking.id, { ...taken, until: now + HANDING_MS });
  }

  /** These sandboxes are on their host, or are no more. */
  settled(sandboxIds: Iterable<string>): void {
    for (const sandboxId of sandboxIds) this.#handed.delete(sandboxId);
  }

  /** All that a host is to have. */
  async of(hostId: string, now: number): Promise<WarmSpec[]> {
    const wanted = [...this.#pools.wantedOn(hostId)];
    for (const handed of this.#handed.values()) {
      if (handed.until <= now) this.#handed.delete(handed.booking.id);
      else if (handed.booking.hostId === hostId) wanted.push(handed);
    }
    const grants = new Map<string, Promise<string>>();
    const grantPull = (environment: string, repository: string) => {
      const key = `${environment} ${repository}`;
      const grant = grants.get(key) ?? signHostPull(this.#signingSecret, environment, repository);
      grants.set(key, grant);
      return grant;
    };
    return Promise.all(wanted.map((container) => specOf(container, grantPull)));
  }
}

async function specOf({ warmId, pool, booking: { gpus } }: PoolContainer, grantPull: GrantPull): Promise<WarmSpec> {
  const { environment, create, place } = pool;
  const { image, cpu, memory, workdir } = create;
  const source = place?.source;
  return {
    warm_id: warmId,
    environment,
    image,
    ...(source && { image_source: { ...source, token: await grantPull(environment, source.repository) } }),
    ...(cpu !== undefined && { cpu }),
    ...(memory !== undefined && { memory }),
    ...(gpus.length > 0 && { gpus: [...gpus] }),
    ...(workdir !== undefined && { workdir }),
  };
}
