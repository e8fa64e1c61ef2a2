import type { Decision, Demand, Grant, Holding } from "./policy/model.ts";
import type { Scheduler } from "./policy/scheduler.ts";
import { Documents } from "./schema.ts";

/** One that stands in line and is not asked after for so long has gone. */
const FORGOTTEN_AFTER_MS = 60_000;
/** So long a place is kept that its host does not report as used, before its sandbox is asked. */
const LEASE_MS = 60_000;

/** A promised place, and how it is to be taken. */
export interface Booking extends Holding {
  /** The warm containers that make room for it. */
  evicted: readonly string[];
  /** The warm container that it takes. */
  warm?: string;
}

/** The promises: what of which host belongs to whom, over the sleep of the object, and who waits for a place. */
export class Bookings {
  readonly #scheduler: Scheduler;
  readonly #documents: Documents<Booking>;
  readonly #onEvicted: (warmIds: readonly string[]) => void;
  readonly #bookings = new Map<string, Booking>();
  readonly #renewedAt = new Map<string, number>();
  readonly #askedAt = new Map<string, number>();
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(sql: SqlStorage, scheduler: Scheduler, onEvicted: (warmIds: readonly string[]) => void, now: number) {
    this.#scheduler = scheduler;
    this.#documents = new Documents(sql, "holdings");
    this.#onEvicted = onEvicted;
    for (const booking of this.#documents.all()) {
      this.#bookings.set(booking.id, booking);
      this.#renewedAt.set(booking.id, now);
      scheduler.restore(booking);
    }
  }

  get(id: string): Booking | undefined {
    return this.#bookings.get(id);
  }

  /** As `Scheduler.request`, and kept. */
  request(demand: Demand, excluded: ReadonlySet<string>, now: number): Decision {
    const decision = this.#scheduler.request(demand, excluded);
    if (decision.kind === "granted") this.#granted(decision.grant, now);
    else this.#drop(demand.id);
    if (decision.kind === "queued") this.#asked(demand.id, now);
    // One that was moved has left room where it was.
    this.settle(now);
    return decision;
  }

  /** A warm container's place, where there is one to spare. */
  place(demand: Demand, excluded: ReadonlySet<string>, now: number): Booking | undefined {
    const grant = this.#scheduler.place(demand, excluded);
    return grant && this.#granted(grant, now);
  }

  /** The place of a warm container becomes the sandbox's. */
  hand(warmId: string, demand: Demand, now: number): Booking | undefined {
    const holding = this.#scheduler.hand(warmId, demand);
    this.#drop(warmId);
    if (!holding) return undefined;
    return this.#keep({ ...holding, evicted: [], warm: warmId }, now);
  }

  /** Resolves once it has a place, or the time is up. */
  async wait(id: string, waitMs: number): Promise<void> {
    if (waitMs <= 0 || this.#bookings.has(id)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const all = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, all.add(resolve));
    const timer = setTimeout(resolve, waitMs);
    await promise;
    clearTimeout(timer);
    all.delete(resolve);
    if (all.size === 0) this.#waiting.delete(id);
    this.#asked(id, Date.now());
  }

  /** Gives up what it has, or waits for. */
  release(id: string, now: number): void {
    this.#scheduler.cancel(id);
    this.#scheduler.release(id);
    this.#askedAt.delete(id);
    this.#drop(id);
    this.#wake(id);
    this.settle(now);
  }

  /** What a host that is no more had is nobody's. */
  removeHost(hostId: string): void {
    for (const { id } of this.#scheduler.removeHost(hostId)) this.#drop(id);
  }

  /** Gives whoever waits what is there to be given. */
  settle(now: number): void {
    for (const { grant } of this.#scheduler.pump()) this.#granted(grant, now);
  }

  /** These run on their host. */
  renew(ids: Iterable<string>, now: number): void {
    for (const id of ids) if (this.#bookings.has(id)) this.#renewedAt.set(id, now);
  }

  /** The sandboxes whose place on this host nobody has used for a while. They are told once in a while. */
  unused(hostId: string, now: number): string[] {
    const ids: string[] = [];
    for (const { id, isWarm } of this.#scheduler.holdingsOf(hostId)) {
      if (isWarm || now < (this.#renewedAt.get(id) ?? 0) + LEASE_MS) continue;
      this.#renewedAt.set(id, now);
      ids.push(id);
    }
    return ids;
  }

  /** Takes those out of the line whose sandbox does not ask any more. */
  sweep(now: number): void {
    for (const [id, askedAt] of this.#askedAt) {
      if (askedAt > now - FORGOTTEN_AFTER_MS) break;
      if (this.#waiting.has(id)) {
        this.#asked(id, now);
        continue;
      }
      this.#askedAt.delete(id);
      this.#scheduler.cancel(id);
    }
  }

  /** Behind all that were asked after earlier. */
  #asked(id: string, now: number): void {
    this.#askedAt.delete(id);
    if (!this.#bookings.has(id)) this.#askedAt.set(id, now);
  }

  #granted({ holding, evicted }: Grant, now: number): Booking {
    for (const warmId of evicted) this.#drop(warmId);
    if (evicted.length > 0) this.#onEvicted(evicted);
    const before = this.#bookings.get(holding.id);
    if (before?.hostId === holding.hostId) return before;
    const booking = this.#keep({ ...holding, evicted }, now);
    this.#askedAt.delete(holding.id);
    this.#wake(holding.id);
    return booking;
  }

  #keep(booking: Booking, now: number): Booking {
    this.#bookings.set(booking.id, booking);
    this.#renewedAt.set(booking.id, now);
    this.#documents.put(booking.id, booking);
    return booking;
  }

  #drop(id: string): void {
    this.#renewedAt.delete(id);
    if (this.#bookings.delete(id)) this.#documents.delete(id);
  }

  #wake(id: string): void {
    for (const resolve of this.#waiting.get(id) ?? []) resolve();
  }
}
