import { pageOf, type PageRequest } from "../catalog/cursor.ts";
import { ApiError } from "../contract/errors.ts";
import type { Page } from "../contract/list.ts";
import type { Pool, PoolPatch } from "../contract/pool.ts";
import type { PoolDoc } from "./pool.ts";
import type { Pools } from "./pools.ts";
import type { PlacementRequest, PoolInput } from "./rpc.ts";

const MAX_POOLS = 50;

/** What is asked of the warm pools of an environment. */
export class PoolDesk {
  readonly #pools: Pools;
  readonly #imageFor: (request: PlacementRequest) => string;

  /** `imageFor` throws what no host can honour. */
  constructor(pools: Pools, imageFor: (request: PlacementRequest) => string) {
    this.#pools = pools;
    this.#imageFor = imageFor;
  }

  create({ poolId, environment, create, place }: PoolInput): Pool {
    const before = this.#pools.get(poolId);
    if (before) return this.#pools.describe(before);
    const now = Date.now();
    const { size, ...rest } = create;
    const image = this.#imageFor({ sandboxId: poolId, environment, create: rest, place, since: now });
    if (this.#pools.of(environment).length >= MAX_POOLS)
      throw new ApiError("conflict", { detail: `The environment has ${MAX_POOLS} pools, and cannot have more.` });
    const pool: PoolDoc = {
      poolId,
      environment,
      create: { ...rest, size, image },
      place,
      createdAt: now,
      failures: 0,
      retryAt: 0,
    };
    this.#pools.put(pool, now);
    return this.#pools.describe(pool);
  }

  list(environment: string, page: PageRequest): Page<Pool> {
    const position = ({ createdAt, poolId: id }: PoolDoc) => ({ createdAt, id });
    return pageOf(this.#pools.of(environment), page, position, (pool) => this.#pools.describe(pool));
  }

  find(environment: string, poolId: string): Pool {
    return this.#pools.describe(this.#require(environment, poolId));
  }

  patch(environment: string, poolId: string, { size }: PoolPatch): Pool {
    const pool = this.#require(environment, poolId);
    if (size !== undefined)
      this.#pools.put({ ...pool, create: { ...pool.create, size }, failures: 0, retryAt: 0 }, Date.now());
    return this.find(environment, poolId);
  }

  delete(environment: string, poolId: string): void {
    this.#pools.delete(this.#require(environment, poolId), Date.now());
  }

  #require(environment: string, poolId: string): PoolDoc {
    const pool = this.#pools.get(poolId);
    if (pool?.environment === environment) return pool;
    throw new ApiError("not_found", { detail: "There is no such pool." });
  }
}
