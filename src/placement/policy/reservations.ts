import { isOlder, type FairQueue, type Line, type Waiting } from "./fair-queue.ts";
import type { Fleet } from "./fleet.ts";
import type { HostRoom } from "./host-room.ts";
import type { GpuWish } from "../../contract/gpu.ts";
import type { Shares } from "./shares.ts";
import type { Want } from "./want.ts";

/** Who has seen so many others go first may have a host kept. */
const PASSED_OVER = 50;
/** No more of the fleet than this share is kept, so that it does not stand idle for the large; and one host for the oldest. */
const MAX_KEPT = 0.1;
/** So many hosts are compared in one group, the emptiest first, and so many passed by that cannot have it. */
const SAMPLE = 4;
const MAX_LOOKED = 256;
/** How many are kept in one go: it is called whenever something ends. */
const AT_ONCE = 2;

/**
 * What is kept free for the large, which would wait for ever while smaller ones take whatever becomes free: the host that lacks least
 * gives to others only what is beyond the need of the one who waits, until that one has room there, or is served elsewhere. The
 * environment that holds least comes first, so that it has its share also when it asks for more at a time than others do; and the
 * oldest of all always has one, whoever holds how much.
 */
export class Reservations {
  readonly #fleet: Fleet;
  readonly #shares: Shares;
  readonly #byId = new Map<string, Kept>();
  readonly #on = new Map<HostRoom, Waiting>();
  /** For how many of a line something is kept. */
  readonly #inLine = new Map<Line, number>();
  /** The share of the fleet that is kept for each environment. */
  readonly #shareOf = new Map<string, number>();
  #kept = 0;
  /** Whose age is why a host is kept. */
  #oldest: string | undefined;
  #lifted = 0;

  constructor(fleet: Fleet, shares: Shares) {
    this.#fleet = fleet;
    this.#shares = shares;
  }

  /** For whom something is kept on a host. */
  on(room: HostRoom): Waiting | undefined {
    return this.#on.get(room);
  }

  /** The host that was kept for it, which anyone may have now. */
  lift(id: string): HostRoom | undefined {
    const kept = this.#byId.get(id);
    if (!kept) return undefined;
    const { room, waiting, share } = kept;
    this.#byId.delete(id);
    if (id === this.#oldest) this.#oldest = undefined;
    this.#on.delete(room);
    this.#count(waiting, -share, -1);
    this.#lifted++;
    this.#fleet.keep(room, undefined);
    return room;
  }

  /** Keeps hosts for those who were passed over for too long. */
  make(queue: FairQueue): void {
    // Where no host was found, none is sought again before there are others.
    const state = this.#fleet.revision + this.#lifted;
    for (let made = 0; made < AT_ONCE && (this.#oldest === undefined || this.#kept < MAX_KEPT); made++) {
      const isForOldest = this.#oldest === undefined;
      const waiting = this.#next(queue, state, isForOldest);
      if (!waiting) return;
      const { want } = waiting.line;
      const best = this.#leastLacking(want);
      if (!best) {
        waiting.line.notKeptAt = state;
        continue;
      }
      const { room, wish } = best;
      const share = this.#shares.of(want.cpu, want.memory, wish?.count ?? 0);
      this.#fleet.keep(room, { cpu: want.cpu, memory: want.memory, gpu: wish });
      if (isForOldest) this.#oldest = waiting.demand.id;
      this.#byId.set(waiting.demand.id, { waiting, room, share });
      this.#count(waiting, share, 1);
      this.#on.set(room, waiting);
    }
  }

  #next(queue: FairQueue, state: number, isForOldest: boolean): Waiting | undefined {
    let best: { waiting: Waiting; share: number } | undefined;
    for (const line of queue.passedOver(PASSED_OVER)) {
      if (line.notKeptAt === state) continue;
      const { environment } = line;
      const share = isForOldest ? 0 : this.#shares.dominant(environment) + (this.#shareOf.get(environment) ?? 0);
      if (best && share > best.share) continue;
      // Those in front have theirs; one who came in front of them since has the first that has room.
      let at = this.#inLine.get(line) ?? 0;
      while (at < line.waiting.length && this.#byId.has(line.waiting[at]!.demand.id)) at++;
      const waiting = line.waiting[at];
      if (!waiting || (best && share === best.share && !isOlder(waiting, best.waiting))) continue;
      best = { waiting, share };
    }
    return best?.waiting;
  }

  #count({ line }: Waiting, share: number, one: 1 | -1): void {
    const inLine = (this.#inLine.get(line) ?? 0) + one;
    if (inLine > 0) this.#inLine.set(line, inLine);
    else this.#inLine.delete(line);
    const sum = (this.#shareOf.get(line.environment) ?? 0) + share;
    this.#kept += share;
    if (this.#byId.size === 0) this.#kept = 0;
    if (sum > 1e-12) this.#shareOf.set(line.environment, sum);
    else this.#shareOf.delete(line.environment);
  }

  #leastLacking(want: Want): Candidate | undefined {
    const wishes = want.gpus.length > 0 ? want.gpus : [undefined];
    const { onlyHost } = want.hosts;
    const only = onlyHost === undefined ? undefined : this.#fleet.room(onlyHost);
    const admitted = this.#fleet.admitted(want.hosts);
    const few = onlyHost === undefined ? admitted.few() : [only].filter((room) => room !== undefined);
    let best: Candidate | undefined;
    for (const wish of wishes) {
      let compared = 0;
      let looked = 0;
      const visit = (room: HostRoom): boolean => {
        const isOne = !room.kept && room.couldFit(want, wish) && this.#fleet.suits(room, want);
        if (!isOne) return ++looked === MAX_LOOKED;
        const lack = lackOf(room, want, wish);
        if (!best || lack < best.lack) best = { room, wish, lack };
        return ++compared === SAMPLE;
      };
      if (few) {
        for (const room of few) visit(room);
        continue;
      }
      for (const group of admitted.groups) {
        if (wish && group.gpusOf(wish.type) < wish.count) continue;
        compared = looked = 0;
        group.visitEmptiest(wish?.type, visit);
      }
    }
    return best;
  }
}

interface Kept {
  waiting: Waiting;
  room: HostRoom;
  /** Of the fleet. */
  share: number;
}

interface Candidate {
  room: HostRoom;
  wish: GpuWish | undefined;
  lack: number;
}

/** How much of the host must become free, as the largest share of it. */
function lackOf(room: HostRoom, want: Want, wish: GpuWish | undefined): number {
  const { profile } = room;
  const gpus = wish ? (wish.count - room.gpusFree(wish.type)) / profile.gpusOf(wish.type) : 0;
  return Math.max(0, gpus, (want.cpu - room.cpuFree) / profile.cpu, (want.memory - room.memoryFree) / profile.memory);
}
