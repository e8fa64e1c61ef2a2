import type { Fleet } from "./fleet.ts";
import type { HostRoom } from "./host-room.ts";
import type { Holding } from "./model.ts";
import { Shares } from "./shares.ts";

/** All that is promised, charged to the hosts that are known. */
export class Ledger {
  readonly shares: Shares;
  readonly #fleet: Fleet;
  readonly #byId = new Map<string, Holding>();
  /** Of hosts that have not said yet what they are. */
  readonly #ofUnknown = new Map<string, Map<string, Holding>>();

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
    this.shares = new Shares(fleet.total);
  }

  get(id: string): Holding | undefined {
    return this.#byId.get(id);
  }

  get size(): number {
    return this.#byId.size;
  }

  of(hostId: string): Iterable<Holding> {
    return (this.#fleet.room(hostId)?.holdings ?? this.#ofUnknown.get(hostId) ?? new Map<string, Holding>()).values();
  }

  add(holding: Holding): void {
    this.remove(holding.id);
    this.#byId.set(holding.id, holding);
    this.shares.charge(holding);
    const room = this.#fleet.room(holding.hostId);
    if (room) return this.#fleet.charge(room, holding);
    const others = this.#ofUnknown.get(holding.hostId);
    if (others) others.set(holding.id, holding);
    else this.#ofUnknown.set(holding.hostId, new Map([[holding.id, holding]]));
  }

  remove(id: string): Holding | undefined {
    const holding = this.#byId.get(id);
    if (!holding) return undefined;
    this.#byId.delete(id);
    this.shares.release(holding);
    const room = this.#fleet.room(holding.hostId);
    if (room) this.#fleet.release(room, holding);
    else {
      const others = this.#ofUnknown.get(holding.hostId)!;
      others.delete(id);
      if (others.size === 0) this.#ofUnknown.delete(holding.hostId);
    }
    return holding;
  }

  /** A host that is new, or is another than it was: what is promised of it is charged to what it has now. */
  charge(room: HostRoom, replaced: HostRoom | undefined): void {
    for (const holding of replaced?.holdings.values() ?? []) this.#fleet.charge(room, holding);
    for (const holding of this.#ofUnknown.get(room.hostId)?.values() ?? []) this.#fleet.charge(room, holding);
    this.#ofUnknown.delete(room.hostId);
  }
}
