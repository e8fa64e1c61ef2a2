import type { Fleet } from "./fleet.ts";
import type { HostRoom } from "./host-room.ts";
import type { Want } from "./want.ts";

/** When more hosts than these have changed, all are searched for each want instead of each of these looked at. */
const MANY_CHANGED = 32;

/** Where those who wait may have room: only where something has changed since they were last looked for. */
export class Openings {
  readonly #fleet: Fleet;
  readonly #changed = new Set<HostRoom>();
  /** For which no host has been looked at. */
  readonly #untried = new Set<Want>();

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  get isEmpty(): boolean {
    return this.#changed.size === 0;
  }

  changed(): Iterable<HostRoom> {
    return this.#changed;
  }

  add(room: HostRoom): void {
    if (room.isOpen) this.#changed.add(room);
  }

  delete(room: HostRoom): void {
    this.#changed.delete(room);
  }

  addUntried(want: Want): void {
    this.#untried.add(want);
  }

  /** All who wait have been looked at. */
  clear(): void {
    this.#changed.clear();
    this.#untried.clear();
  }

  /** The only hosts where it may have room; undefined: any. */
  roomsFor(want: Want): Iterable<HostRoom> | undefined {
    return this.#changed.size > MANY_CHANGED || this.#untried.has(want) ? undefined : this.#changed;
  }

  /** False where it has none; true is no promise. */
  mayHaveRoom(want: Want): boolean {
    const rooms = this.roomsFor(want);
    if (!rooms) return true;
    for (const room of rooms) if (room.mayFit(want) && this.#fleet.suits(room, want)) return true;
    return false;
  }
}
