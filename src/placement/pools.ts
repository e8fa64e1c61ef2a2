import { newId } from "../contract/ids.ts";
import type { WarmStatus } from "../contract/host-protocol.ts";
import type { Pool } from "../contract/pool.ts";
import type { ImagePlace } from "../sandbox/rpc.ts";
import type { Booking, Bookings } from "./bookings.ts";
import type { Inventory } from "./inventory.ts";
import { demandOf, hostClassOf } from "./judge.ts";
import { describePool, keyOfCreate, keyOfPool, requestOf, type PoolDoc } from "./pool.ts";
import type { PlacementRequest } from "./rpc.ts";
import { Documents } from "./schema.ts";
import { WarmSet, type Warm } from "./warm-set.ts";

const FIRST_RETRY_MS = 5_000;
const LAST_RETRY_MS = 300_000;
/** What is missing is looked for so often where nothing has changed. */
const LOOK_EVERY_MS = 1_000;
/** A host that is silent for longer is not counted on for warm containers. */
const GONE_AFTER_MS = 60_000;

/** A container that is started ahead, with all that it is made from. */
export interface PoolContainer {
  warmId: string;
  pool: PoolDoc;
  booking: Booking;
}

/** The warm pools: which there are, and which of their containers is where. */
export class Pools {
  readonly #bookings: Bookings;
  readonly #inventory: Inventory;
  readonly #poolDocuments: Documents<PoolDoc>;
  readonly #warm: WarmSet;
  readonly #pools = new Map<string, PoolDoc>();
  readonly #byKey = new Map<string, Set<string>>();
  /** By pool: the hosts that could not start its containers, which others are tried before. */
  readonly #failedOn = new Map<string, Set<string>>();
  /** By pool: when it found no room. However much else changes, it is not looked for anew before there may be some. */
  readonly #fullAt = new Map<string, number>();
  #lookAt = 0;

  constructor(sql: SqlStorage, bookings: Bookings, inventory: Inventory) {
    this.#bookings = bookings;
    this.#inventory = inventory;
    this.#poolDocuments = new Documents(sql, "pools");
    this.#warm = new WarmSet(sql);
    for (const pool of this.#poolDocuments.all()) this.#index(pool);
  }

  get(poolId: string): PoolDoc | undefined {
    return this.#pools.get(poolId);
  }

  /** Those of an environment, the newest first. */
  of(environment: string): PoolDoc[] {
    const all = [...this.#pools.values()].filter((pool) => pool.environment === environment);
    return all.toSorted((a, b) => b.createdAt - a.createdAt || (a.poolId < b.poolId ? 1 : -1));
  }

  describe(pool: PoolDoc): Pool {
    const states = [...this.#warm.of(pool.poolId)].map(({ state }) => state);
    const ready = states.filter((state) => state === "ready").length;
    return describePool(pool, ready, states.length - ready, this.#fullAt.has(pool.poolId));
  }

  /** Keeps a pool, new or changed, and has its containers started, or removed. */
  put(pool: PoolDoc, now: number): void {
    this.#failedOn.delete(pool.poolId);
    this.#fullAt.delete(pool.poolId);
    this.#poolDocuments.put(pool.poolId, pool);
    this.#index(pool);
    this.#shrink(pool, now);
    this.#lookAt = 0;
    this.converge(now);
  }

  delete(pool: PoolDoc, now: number): void {
    for (const warm of this.#warm.of(pool.poolId)) this.#remove(warm, now);
    this.#pools.delete(pool.poolId);
    this.#failedOn.delete(pool.poolId);
    this.#fullAt.delete(pool.poolId);
    const key = keyOfPool(pool);
    const same = this.#byKey.get(key);
    same?.delete(pool.poolId);
    if (same?.size === 0) this.#byKey.delete(key);
    this.#poolDocuments.delete(pool.poolId);
  }

  /** Gives a sandbox the warm container that is as it would be. */
  take(request: PlacementRequest, excluded: ReadonlySet<string>, now: number): PoolContainer | undefined {
    const key = keyOfCreate(request);
    const { admits } = hostClassOf(request);
    for (const poolId of (key && this.#byKey.get(key)) || []) {
      const pool = this.#pools.get(poolId)!;
      if (!this.#isCurrent(pool, request.place, now)) continue;
      for (const warm of this.#warm.of(poolId)) {
        if (warm.state !== "ready" || excluded.has(warm.hostId) || !this.#inventory.isOpen(warm.hostId)) continue;
        // Its host may be another than it was, and the create asks for more than the pool does.
        if (!admits(this.#inventory.kindOf(warm.hostId)!)) continue;
        const booking = this.#bookings.hand(warm.warmId, demandOf(request), now);
        this.#warm.delete(warm);
        this.#lookAt = 0;
        if (booking) return { warmId: warm.warmId, pool, booking };
      }
    }
    return undefined;
  }

  /** These have given way to others: their places are taken already. */
  evicted(warmIds: readonly string[]): void {
    for (const warmId of warmIds) {
      const warm = this.#warm.get(warmId);
      if (warm) this.#warm.delete(warm);
    }
  }

  /** What a host says of its warm containers; undefined where it can have none. One that it no longer has is made anew. */
  reported(hostId: string, statuses: readonly WarmStatus[] | undefined, now: number): void {
    const told = new Map(statuses?.map((status) => [status.warm_id, status]));
    for (const warm of this.#warm.on(hostId)) {
      // Room that one leaves may go to who takes another's, too.
      if (!this.#warm.get(warm.warmId)) continue;
      const status = told.get(warm.warmId);
      if (!status) {
        if (warm.state !== "ordered" || !statuses) this.#remove(warm, now);
      } else if (status.state === "failed") {
        this.#failed(warm, status.error ?? "The container could not be started.", now);
      } else if (status.state !== warm.state) {
        this.#warm.put({ ...warm, state: status.state });
        if (status.state === "ready") this.#recovered(warm.poolId);
      }
    }
  }

  /** Hosts have changed: what that means is found out at once. */
  hostsChanged(): void {
    this.#fullAt.clear();
    this.#lookAt = 0;
  }

  /** Gives up those on hosts that take nothing new, and has started what is missing. */
  converge(now: number): void {
    if (now < this.#lookAt && now > this.#lookAt - 2 * LOOK_EVERY_MS) return;
    this.#lookAt = now + LOOK_EVERY_MS;
    for (const hostId of this.#warm.hosts) {
      const isGone = (this.#inventory.seenAt(hostId) ?? 0) <= now - GONE_AFTER_MS;
      if (isGone || this.#inventory.isDraining(hostId))
        for (const warm of this.#warm.on(hostId)) this.#remove(warm, now);
    }
    for (const pool of this.#pools.values()) this.#fill(pool, now);
  }

  /** The warm containers that a host is to have. */
  *wantedOn(hostId: string): Iterable<PoolContainer> {
    for (const { warmId, poolId } of this.#warm.on(hostId)) {
      const pool = this.#pools.get(poolId);
      const booking = this.#bookings.get(warmId);
      if (pool && booking) yield { warmId, pool, booking };
    }
  }

  #fill(pool: PoolDoc, now: number): void {
    if (now < pool.retryAt || Math.abs(now - (this.#fullAt.get(pool.poolId) ?? 0)) < LOOK_EVERY_MS) return;
    this.#fullAt.delete(pool.poolId);
    for (let missing = pool.create.size - this.#warm.countOf(pool.poolId); missing > 0; missing--) {
      const warmId = newId("warm");
      const booking = this.#place(pool, warmId, now);
      if (!booking) return void this.#fullAt.set(pool.poolId, now);
      this.#warm.put({ warmId, poolId: pool.poolId, hostId: booking.hostId, state: "ordered" });
    }
  }

  #place(pool: PoolDoc, warmId: string, now: number): Booking | undefined {
    const demand = demandOf(requestOf(pool, warmId, now), true);
    const elsewhere = this.#bookings.place(demand, this.#failedOn.get(pool.poolId) ?? new Set(), now);
    if (elsewhere || !this.#failedOn.delete(pool.poolId)) return elsewhere;
    return this.#bookings.place(demand, new Set(), now);
  }

  /** Those that are not ready go first. */
  #shrink(pool: PoolDoc, now: number): void {
    const all = [...this.#warm.of(pool.poolId)];
    const dispensable = all.toSorted((a, b) => Number(a.state === "ready") - Number(b.state === "ready"));
    for (const warm of dispensable.slice(0, Math.max(0, all.length - pool.create.size))) this.#remove(warm, now);
  }

  /** A reference that was pushed again means another image: what was made of the old one is of no use. */
  #isCurrent(pool: PoolDoc, place: ImagePlace | undefined, now: number): boolean {
    if (pool.place?.source?.digest === place?.source?.digest) return true;
    for (const warm of this.#warm.of(pool.poolId)) this.#remove(warm, now);
    this.put({ ...pool, place }, now);
    return false;
  }

  #failed(warm: Warm, error: string, now: number): void {
    this.#remove(warm, now);
    const pool = this.#pools.get(warm.poolId);
    if (!pool) return;
    this.#failedOn.set(pool.poolId, (this.#failedOn.get(pool.poolId) ?? new Set()).add(warm.hostId));
    // Those that were started together count once.
    if (now < pool.retryAt) return this.#store({ ...pool, error });
    const failures = pool.failures + 1;
    const retryAt = now + Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1));
    this.#store({ ...pool, error, failures, retryAt });
  }

  #recovered(poolId: string): void {
    const pool = this.#pools.get(poolId);
    if (!pool || (pool.failures === 0 && pool.error === undefined)) return;
    const { error: _, ...rest } = pool;
    this.#store({ ...rest, failures: 0, retryAt: 0 });
  }

  #store(pool: PoolDoc): void {
    this.#pools.set(pool.poolId, pool);
    this.#poolDocuments.put(pool.poolId, pool);
  }

  #index(pool: PoolDoc): void {
    const key = keyOfPool(pool);
    this.#pools.set(pool.poolId, pool);
    this.#byKey.set(key, (this.#byKey.get(key) ?? new Set()).add(pool.poolId));
  }

  /** Gives its place up, too. */
  #remove(warm: Warm, now: number): void {
    this.#warm.delete(warm);
    this.#lookAt = 0;
    this.#bookings.release(warm.warmId, now);
  }
}
