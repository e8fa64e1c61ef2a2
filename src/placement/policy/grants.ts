import { findRoomByEviction, findRoomByEvictionAmong, type MadeRoom } from "./evict.ts";
import type { Fleet } from "./fleet.ts";
import type { HostRoom } from "./host-room.ts";
import type { Ledger } from "./ledger.ts";
import type { Demand, Grant, Holding } from "./model.ts";
import { findRoom, findRoomAmong, type Found } from "./search.ts";
import type { Want } from "./want.ts";

/** Finds room, and writes down that it is promised. */
export class Grants {
  readonly #fleet: Fleet;
  readonly #ledger: Ledger;

  constructor(fleet: Fleet, ledger: Ledger) {
    this.#fleet = fleet;
    this.#ledger = ledger;
  }

  /** From what is free; where that is not enough, warm containers give way. On one of `rooms` where they are given. */
  find(demand: Demand, want: Want, rooms?: Iterable<HostRoom>): Grant | undefined {
    const { image } = demand;
    const found = rooms ? findRoomAmong(this.#fleet, want, image, rooms) : findRoom(this.#fleet, want, image);
    if (found) return this.#promise(demand, found, false);
    const made = rooms
      ? findRoomByEvictionAmong(this.#fleet, want, image, rooms)
      : findRoomByEviction(this.#fleet, want, image);
    return made && this.promise(demand, made, false);
  }

  /** From what is free, for a warm container. */
  findForWarm(demand: Demand, want: Want): Grant | undefined {
    const found = findRoom(this.#fleet, want, demand.image);
    return found && this.#promise(demand, found, true);
  }

  promise(demand: Demand, { room, gpus, evicted }: MadeRoom, isWarm: boolean): Grant {
    const { id, environment, cpu, memory } = demand;
    for (const warm of evicted) this.#ledger.remove(warm.id);
    const holding: Holding = { id, environment, hostId: room.hostId, cpu, memory, gpus, isWarm };
    this.#ledger.add(holding);
    return { holding, evicted: evicted.map((warm) => warm.id) };
  }

  #promise(demand: Demand, { room, wish }: Found, isWarm: boolean): Grant {
    const gpus = wish ? room.devices!.choose(wish, undefined, room.kept?.gpu)! : [];
    return this.promise(demand, { room, gpus, evicted: [] }, isWarm);
  }
}
