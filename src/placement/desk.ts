import type { HostPlacement } from "../backends/backend.ts";
import type { HostReport } from "../contract/host-report.ts";
import { limitsOf, type LimitVariables } from "../contract/limits.ts";
import { imageFor, unsupported } from "./admission.ts";
import { Bookings, type Booking } from "./bookings.ts";
import { Inventory } from "./inventory.ts";
import { demandOf, refusals } from "./judge.ts";
import { lineIsFull, QUEUE_LIMITS, whyWaiting } from "./line.ts";
import type { Decision } from "./policy/model.ts";
import { Scheduler } from "./policy/scheduler.ts";
import { PoolDesk } from "./pool-desk.ts";
import { Pools } from "./pools.ts";
import type {
  Admission,
  HostStanding,
  LiveHost,
  PlacementRequest,
  ReportAnswer,
  Reservation,
  ReserveOptions,
} from "./rpc.ts";
import { createTables } from "./schema.ts";
import { releaseUnused, type PlaceHolders } from "./unused.ts";
import { WarmOrders } from "./warm-orders.ts";

/** What is on hosts that do not report is looked after so often. */
const SILENT_EVERY_MS = 60_000;

export interface DeskEnv extends LimitVariables, PlaceHolders {
  SIGNING_SECRET: string;
  DEFAULT_IMAGE?: string;
}

/** Places sandboxes on hosts. */
export class Desk {
  readonly poolDesk: PoolDesk;
  readonly #ctx: DurableObjectState;
  readonly #env: DeskEnv;
  readonly #hostLostAfterMs: number;
  readonly #inventory: Inventory;
  /** When the places on hosts that do not report are looked after next. */
  #silentAt = 0;
  readonly #scheduler = new Scheduler(QUEUE_LIMITS);
  readonly #bookings: Bookings;
  readonly #pools: Pools;
  readonly #warmOrders: WarmOrders;

  constructor(ctx: DurableObjectState, env: DeskEnv) {
    const { sql } = ctx.storage;
    const now = Date.now();
    createTables(sql);
    this.#ctx = ctx;
    this.#env = env;
    this.#hostLostAfterMs = limitsOf(env).hostLostAfterMs;
    this.#inventory = new Inventory(sql, now);
    for (const host of this.#inventory.fleet()) {
      this.#scheduler.putHost(host);
      this.#scheduler.occupy(host.hostId, this.#inventory.occupied(host.hostId));
    }
    this.#bookings = new Bookings(sql, this.#scheduler, (warmIds) => this.#pools.evicted(warmIds), now);
    this.#pools = new Pools(sql, this.#bookings, this.#inventory);
    this.#warmOrders = new WarmOrders(this.#pools, env.SIGNING_SECRET);
    this.poolDesk = new PoolDesk(this.#pools, (input) => this.#imageFor(input, true));
  }

  admit(request: PlacementRequest): Admission {
    const now = Date.now();
    const image = this.#imageFor(request, false);
    const outcome = this.#book({ ...request, create: { ...request.create, image } }, [], now);
    if ("kind" in outcome && outcome.kind === "full") throw lineIsFull(outcome);
    return { image, place: this.#placeFor(request.sandboxId) };
  }

  amend(request: PlacementRequest): void {
    const booking = this.#bookings.get(request.sandboxId);
    const kind = booking && this.#inventory.kindOf(booking.hostId);
    if (!kind) return void this.admit(request);
    const errors = refusals(request, kind);
    if (errors.length > 0) throw unsupported(errors);
  }

  async reserve(request: PlacementRequest, { excluded, waitMs }: ReserveOptions): Promise<Reservation> {
    const outcome = this.#book(request, excluded, Date.now());
    const { sandboxId } = request;
    if ("kind" in outcome && outcome.kind === "queued") await this.#bookings.wait(sandboxId, waitMs);
    const place = this.#placeFor(sandboxId);
    if (place) return { place };
    // A host that is not known any more is no place.
    if (this.#bookings.get(sandboxId)) this.#bookings.release(sandboxId, Date.now());
    return { why: whyWaiting(demandOf(request), this.#inventory.isAnyOpen) };
  }

  release(sandboxId: string): void {
    this.#warmOrders.settled([sandboxId]);
    this.#bookings.release(sandboxId, Date.now());
    this.#pools.converge(Date.now());
  }

  async report(report: HostReport, standing: HostStanding): Promise<ReportAnswer> {
    const now = Date.now();
    const hostId = report.info.host_id;
    const own = new Set<string>();
    const others = new Set<string>();
    for (const { sandbox_id: id, gpus = [] } of report.containers) {
      const booking = this.#bookings.get(id);
      const isHere = booking?.hostId === hostId;
      if (isHere) own.add(id);
      for (const gpu of gpus) if (!isHere || !booking.gpus.includes(gpu)) others.add(gpu);
    }
    // What still has a device that was promised to nobody, or not to it, is on its way out.
    const occupied = (report.info.capacity?.gpus ?? []).map(({ uuid }) => uuid).filter((uuid) => others.has(uuid));
    const { fleetHost, isNews } = this.#inventory.reported(report, standing, occupied, now);
    this.#scheduler.putHost(fleetHost);
    this.#scheduler.occupy(hostId, occupied);
    this.#bookings.renew(own, now);
    this.#releaseUnused(hostId, now);
    const keepsWarm = report.info.capabilities.warm_pools === true;
    this.#pools.reported(hostId, keepsWarm ? (report.warm ?? []) : undefined, now);
    this.#warmOrders.settled(own);
    this.#turn(now);
    return { warm: keepsWarm ? await this.#warmOrders.of(hostId, now) : undefined, isNews };
  }

  setDraining(hostId: string, draining: boolean): void {
    const host = this.#inventory.setDraining(hostId, draining, Date.now());
    if (!host) return;
    this.#scheduler.putHost(host);
    this.#pools.hostsChanged();
    this.#turn(Date.now());
  }

  distrust(hostId: string, oldestKeyVersion: number): void {
    const host = this.#inventory.distrust(hostId, oldestKeyVersion, Date.now());
    if (host) this.#scheduler.putHost(host);
  }

  forget(hostId: string): void {
    this.#inventory.forget(hostId);
    this.#bookings.removeHost(hostId);
    this.#pools.hostsChanged();
    this.#turn(Date.now());
  }

  locate(hostId: string): HostPlacement | undefined {
    return this.#inventory.locate(hostId, Date.now());
  }

  silence(hostId: string): number | undefined {
    const seenAt = this.#inventory.seenAt(hostId);
    return seenAt === undefined ? undefined : Date.now() - seenAt;
  }

  live(hostIds: readonly string[]): Record<string, LiveHost> {
    return Object.fromEntries(
      hostIds.flatMap((hostId): [string, LiveHost][] => {
        const lastSeenAt = this.#inventory.seenAt(hostId);
        if (lastSeenAt === undefined) return [];
        const diskFree = this.#inventory.diskFree(hostId);
        return [[hostId, { lastSeenAt, diskFree, used: this.#scheduler.use(hostId) }]];
      }),
    );
  }

  /** Its place, a warm container's before any other. */
  #book(request: PlacementRequest, excluded: readonly string[], now: number): Booking | Decision {
    this.#closeSilent(now);
    const { sandboxId, create, place } = request;
    // A snapshot is where it was made, before that host tells of it.
    const home = place?.hostId !== undefined && this.#inventory.hasImage(place.hostId, create.image ?? "", now);
    if (home) this.#scheduler.putHost(home);
    const without = new Set(excluded);
    const before = this.#bookings.get(sandboxId);
    if (before && !without.has(before.hostId)) return before;
    // The warm container that it did not get to be.
    if (before) this.#warmOrders.settled([sandboxId]);
    else {
      const taken = this.#pools.take(request, without, now);
      if (taken) {
        this.#warmOrders.handed(taken, now);
        return taken.booking;
      }
    }
    return this.#bookings.request(demandOf(request), without, now);
  }

  #placeFor(sandboxId: string): HostPlacement | undefined {
    const booking = this.#bookings.get(sandboxId);
    const address = booking && this.#inventory.address(booking.hostId);
    if (!address) return undefined;
    const { gpus, warm, evicted } = booking;
    return {
      ...address,
      ...(gpus.length > 0 && { gpus: [...gpus] }),
      ...(warm !== undefined && { warm }),
      ...(evicted.length > 0 && { evict: [...evicted] }),
    };
  }

  /** Throws what no host can honour, and what none has as much of. */
  #imageFor(request: PlacementRequest, isWarm: boolean): string {
    const now = Date.now();
    const { DEFAULT_IMAGE: defaultImage } = this.#env;
    const options = { inventory: this.#inventory, defaultImage, hostLostAfterMs: this.#hostLostAfterMs, isWarm };
    const image = imageFor(request, options, now);
    const create = { ...request.create, image };
    const impossible = this.#scheduler.impossible(demandOf({ ...request, create }, isWarm));
    if (impossible && impossible.length > 0) throw unsupported(impossible);
    return image;
  }

  #releaseUnused(hostId: string, now: number): void {
    const unused = this.#bookings.unused(hostId, now);
    // It may have gone elsewhere while it was asked.
    const release = (id: string) => this.#bookings.get(id)?.hostId === hostId && this.release(id);
    if (unused.length > 0) this.#ctx.waitUntil(releaseUnused(this.#env, hostId, unused, release));
  }

  /** What follows from time, and from any change: room is given to those who wait, and then kept warm. */
  #turn(now: number): void {
    this.#closeSilent(now);
    this.#bookings.sweep(now);
    if (now >= this.#silentAt) {
      this.#silentAt = now + SILENT_EVERY_MS;
      for (const silentId of this.#inventory.silent(now)) this.#releaseUnused(silentId, now);
    }
    this.#bookings.settle(now);
    this.#pools.converge(now);
  }

  #closeSilent(now: number): void {
    for (const host of this.#inventory.fallenSilent(now)) this.#scheduler.putHost(host);
  }
}
