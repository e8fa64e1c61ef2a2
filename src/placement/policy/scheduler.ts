import { makeRoomOn } from "./evict.ts";
import { FairQueue, type Waiting } from "./fair-queue.ts";
import { Fleet } from "./fleet.ts";
import { Grants } from "./grants.ts";
import type { HostRoom } from "./host-room.ts";
import { whyImpossible } from "./impossible.ts";
import { Ledger } from "./ledger.ts";
import type {
  Decision,
  Demand,
  FleetHost,
  Grant,
  Holding,
  Impossibility,
  SchedulerLimits,
  Totals,
  Use,
} from "./model.ts";
import { Openings } from "./openings.ts";
import { Reservations } from "./reservations.ts";
import { totalsOf, useOf } from "./use.ts";
import { wantOf, type Want } from "./want.ts";

/**
 * Decides what goes where: hosts, what is promised of them, and who waits. Pure: it does nothing, knows no time, and decides the same
 * when it is told the same. Between a change that frees something and the `pump` that follows nobody is granted anything else.
 */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #fleet = new Fleet();
  readonly #ledger = new Ledger(this.#fleet);
  readonly #grants = new Grants(this.#fleet, this.#ledger);
  readonly #queue = new FairQueue((environment) => this.#ledger.shares.dominant(environment));
  readonly #reservations = new Reservations(this.#fleet, this.#ledger.shares);
  readonly #openings = new Openings(this.#fleet);

  constructor(limits: SchedulerLimits) {
    this.#limits = limits;
  }

  /** A host that is new, or has changed in any way; what is promised of it stays. */
  putHost(host: FleetHost): void {
    const { room, replaced, isNew, opened } = this.#fleet.put(host);
    if (isNew) this.#ledger.charge(room, replaced);
    if (replaced) {
      this.#leave(replaced);
      if (replaced.devices) this.#fleet.occupy(room, [...replaced.devices.occupied]);
    }
    if (!room.isOpen) this.#leave(room);
    if (opened) this.#freed(room);
  }

  /** Forgets a host, and all that is promised of it, which is returned. */
  removeHost(hostId: string): Holding[] {
    const holdings = [...this.#ledger.of(hostId)];
    for (const { id } of holdings) this.#ledger.remove(id);
    const room = this.#fleet.room(hostId);
    if (room) this.#leave(room);
    this.#fleet.remove(hostId);
    return holdings;
  }

  /** Devices that are in use there by what holds no promise here (a container that is just being removed, say). Replaces what was said before. */
  occupy(hostId: string, gpus: readonly string[]): void {
    const room = this.#fleet.room(hostId);
    if (room && this.#fleet.occupy(room, gpus)) this.#freed(room);
  }

  /** What was promised before, from storage. Its host may come later; one with more than it has room for is full. */
  restore(holding: Holding): void {
    if (this.#ledger.get(holding.id)) this.release(holding.id);
    this.#ledger.add(holding);
  }

  holding(id: string): Holding | undefined {
    return this.#ledger.get(id);
  }

  holdingsOf(hostId: string): Iterable<Holding> {
    return this.#ledger.of(hostId);
  }

  /**
   * A place for it at once, or in line. Asked again: what it has, unless that is on a host that is excluded now; where it waits, it
   * keeps its place.
   */
  request(demand: Demand, excludedHosts?: ReadonlySet<string>): Decision {
    const { id } = demand;
    const held = this.#ledger.get(id);
    if (held && excludedHosts?.has(held.hostId) !== true) return granted({ holding: held, evicted: [] });
    if (held) this.release(id);
    if (this.#queue.size === 0) this.#openings.clear();
    const asked = wantOf(demand, excludedHosts);
    const known = this.#queue.known(asked);
    const waiting = this.#queue.get(id);
    if (waiting) {
      if (waiting.line.want === known) return { kind: "queued" };
      this.cancel(id);
    }
    // Others who want the same found no room either; and what has become free is first theirs who waited for it.
    const mayGo = this.#queue.size === 0 || (!known && this.#openings.isEmpty);
    const grant = mayGo && this.#grant(demand, asked);
    if (grant) return granted(grant);
    if (!waiting && !held) {
      const { perEnvironment, total } = this.#limits;
      if (this.#queue.sizeOf(demand.environment) >= perEnvironment) return { kind: "full", whose: "environment" };
      if (this.#queue.size >= total) return { kind: "full", whose: "deployment" };
    }
    const { line } = this.#queue.add(waiting?.demand ?? demand, asked);
    if (!mayGo && !known) this.#openings.addUntried(line.want);
    return { kind: "queued" };
  }

  /** Out of the queue. */
  cancel(id: string): void {
    this.#unqueue(id);
  }

  /** What it held is free. */
  release(id: string): void {
    const holding = this.#ledger.remove(id);
    const room = holding && this.#fleet.room(holding.hostId);
    if (room) this.#freed(room);
  }

  /** The warm container becomes the sandbox's, with all it holds; undefined where there is none of that id. */
  hand(warmId: string, demand: Demand): Holding | undefined {
    const held = this.#ledger.get(demand.id);
    if (held) return held;
    const warm = this.#ledger.get(warmId);
    if (!warm?.isWarm) return undefined;
    this.#ledger.remove(warmId);
    const holding: Holding = { ...warm, id: demand.id, environment: demand.environment, isWarm: false };
    this.#ledger.add(holding);
    this.#unqueue(demand.id);
    return holding;
  }

  /** A place for a warm container, from what is free and nobody waits for. */
  place(demand: Demand, excludedHosts?: ReadonlySet<string>): Grant | undefined {
    const held = this.#ledger.get(demand.id);
    if (held) return { holding: held, evicted: [] };
    if (this.#queue.size > 0 && !this.#openings.isEmpty) return undefined;
    return this.#grants.findForWarm(demand, wantOf(demand, excludedHosts));
  }

  /** Grants for those in line who have room now. To be called after anything became free, or was added. */
  pump(): { demand: Demand; grant: Grant }[] {
    const grants: { demand: Demand; grant: Grant }[] = [];
    if (this.#queue.size > 0) {
      this.#grantKept(grants);
      this.#grantFairly(grants);
      this.#reservations.make(this.#queue);
    }
    this.#openings.clear();
    return grants;
  }

  /** How many wait. */
  queued(environment?: string): number {
    return environment === undefined ? this.#queue.size : this.#queue.sizeOf(environment);
  }

  /** Why nothing of the fleet can ever have it: see `whyImpossible`. */
  impossible(demand: Demand): Impossibility[] | undefined {
    return whyImpossible(this.#fleet, demand);
  }

  use(hostId: string): Use {
    return useOf(this.#ledger.of(hostId));
  }

  totals(): Totals {
    return totalsOf(this.#fleet, this.#queue.size);
  }

  /** For whom a host was kept, and now has room; where others of the environment came before and want no more, it is theirs. */
  #grantKept(grants: { demand: Demand; grant: Grant }[]): void {
    for (const room of this.#openings.changed()) {
      for (let waiting: Waiting | undefined; (waiting = this.#reservations.on(room));) {
        const { kept } = room;
        room.keep(undefined);
        const suits = (want: Want) => this.#fleet.suits(room, want);
        const first = makeRoomOn(room, waiting.line.want) && this.#queue.firstBefore(waiting, suits);
        const made = first && makeRoomOn(room, first.line.want);
        room.keep(kept);
        if (!made) break;
        this.#unqueue(first.demand.id);
        this.#queue.granted();
        grants.push({ demand: first.demand, grant: this.#grants.promise(first.demand, made, false) });
      }
    }
  }

  #grantFairly(grants: { demand: Demand; grant: Grant }[]): void {
    // Room only becomes less while it is granted: who has none once has none later, unless a host is kept no more.
    let known = new Map<Want, boolean>();
    const hasRoom = (want: Want): boolean => {
      let has = known.get(want);
      if (has === undefined) known.set(want, (has = this.#openings.mayHaveRoom(want)));
      return has;
    };
    for (let next: Waiting | undefined; (next = this.#queue.next(hasRoom));) {
      const { demand, line } = next;
      const grant = this.#grant(demand, line.want, this.#openings.roomsFor(line.want));
      if (!grant) {
        known.set(line.want, false);
        continue;
      }
      grants.push({ demand, grant });
      if (this.#unqueue(demand.id)) known = new Map();
    }
  }

  #grant(demand: Demand, want: Want, rooms?: Iterable<HostRoom>): Grant | undefined {
    const grant = this.#grants.find(demand, want, rooms);
    if (grant) this.#queue.granted();
    return grant;
  }

  /** Whether a host was kept for it, which has room for others now. */
  #unqueue(id: string): boolean {
    this.#queue.remove(id);
    const room = this.#reservations.lift(id);
    if (room) this.#freed(room);
    return room !== undefined;
  }

  #freed(room: HostRoom): void {
    if (this.#queue.size > 0) this.#openings.add(room);
  }

  /** A host that takes nothing: nothing is kept there. */
  #leave(room: HostRoom): void {
    this.#openings.delete(room);
    const waiting = this.#reservations.on(room);
    if (waiting) this.#reservations.lift(waiting.demand.id);
  }
}

const granted = (grant: Grant): Decision => ({ kind: "granted", grant });
