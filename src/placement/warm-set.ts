import { Documents } from "./schema.ts";

/** A container that is started ahead. */
export interface Warm {
  warmId: string;
  poolId: string;
  hostId: string;
  /** `ordered`: its host has not said yet that it has it. */
  state: "ordered" | "starting" | "ready";
}

/** The containers that are started ahead, by pool and by host. */
export class WarmSet {
  readonly #documents: Documents<Warm>;
  readonly #warm = new Map<string, Warm>();
  readonly #ofPool = new Map<string, Set<string>>();
  readonly #onHost = new Map<string, Set<string>>();

  constructor(sql: SqlStorage) {
    this.#documents = new Documents(sql, "warm");
    for (const warm of this.#documents.all()) this.#index(warm);
  }

  get(warmId: string): Warm | undefined {
    return this.#warm.get(warmId);
  }

  put(warm: Warm): void {
    this.#documents.put(warm.warmId, warm);
    this.#index(warm);
  }

  delete({ warmId, poolId, hostId }: Warm): void {
    this.#warm.delete(warmId);
    this.#documents.delete(warmId);
    for (const [index, key] of [[this.#ofPool, poolId] as const, [this.#onHost, hostId] as const]) {
      const ids = index.get(key);
      ids?.delete(warmId);
      if (ids?.size === 0) index.delete(key);
    }
  }

  /** Those with any. */
  get hosts(): Iterable<string> {
    return this.#onHost.keys();
  }

  countOf(poolId: string): number {
    return this.#ofPool.get(poolId)?.size ?? 0;
  }

  /** A copy, as the one below: what goes through it may be changed meanwhile. */
  of(poolId: string): Warm[] {
    return this.#listed(this.#ofPool.get(poolId));
  }

  on(hostId: string): Warm[] {
    return this.#listed(this.#onHost.get(hostId));
  }

  #index(warm: Warm): void {
    const { warmId, poolId, hostId } = warm;
    this.#warm.set(warmId, warm);
    for (const [index, key] of [[this.#ofPool, poolId] as const, [this.#onHost, hostId] as const])
      index.set(key, (index.get(key) ?? new Set()).add(warmId));
  }

  #listed(ids: Iterable<string> = []): Warm[] {
    return Array.from(ids, (id) => this.#warm.get(id)!);
  }
}
