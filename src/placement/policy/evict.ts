import { ANY_GPU, type GpuWish } from "../../contract/gpu.ts";
import type { Fleet } from "./fleet.ts";
import type { HostRoom } from "./host-room.ts";
import type { Holding } from "./model.ts";
import { microCores, type Want } from "./want.ts";

export interface MadeRoom {
  room: HostRoom;
  evicted: readonly Holding[];
  gpus: readonly string[];
}

/** The best host where it has room once warm containers give way: with the image where there is one, then the fewest, the smallest. */
export function findRoomByEviction(fleet: Fleet, want: Want, image: string): MadeRoom | undefined {
  const rooms: HostRoom[] = [];
  for (const group of fleet.admitted(want.hosts).groups) {
    for (const room of group.withWarm) if (room.mayFit(want)) rooms.push(room);
  }
  return rooms.length > 0 ? findRoomByEvictionAmong(fleet, want, image, rooms) : undefined;
}

/** The same among these only. */
export function findRoomByEvictionAmong(
  fleet: Fleet,
  want: Want,
  image: string,
  rooms: Iterable<HostRoom>,
): MadeRoom | undefined {
  const wishes = want.gpus.length > 0 ? want.gpus : [undefined];
  for (const wish of wishes) {
    let best: MadeRoom | undefined;
    for (const room of rooms) {
      if (room.warm.size === 0 || !room.mayFit(want) || !fleet.suits(room, want)) continue;
      const made = makeRoom(room, want, wish);
      if (made && (!best || isBetter(made, best, image))) best = made;
    }
    if (best) return best;
  }
  return undefined;
}

/** What has to give way on one host for any of the wishes; nothing, where it has room as it is. */
export function makeRoomOn(room: HostRoom, want: Want): MadeRoom | undefined {
  if (!room.mayFit(want)) return undefined;
  const wishes = want.gpus.length > 0 ? want.gpus : [undefined];
  for (const wish of wishes) {
    const gpus = devicesFor(room, want, wish, []);
    if (gpus) return { room, evicted: [], gpus };
  }
  for (const wish of wishes) {
    const made = makeRoom(room, want, wish);
    if (made) return made;
  }
  return undefined;
}

function makeRoom(room: HostRoom, want: Want, wish: GpuWish | undefined): MadeRoom | undefined {
  const smallestFirst = [...room.warm].sort((a, b) => sizeIn(room, a) - sizeIn(room, b) || (a.id < b.id ? -1 : 1));
  for (const one of smallestFirst) {
    const gpus = devicesFor(room, want, wish, [one]);
    if (gpus) return { room, evicted: [one], gpus };
  }
  let evicted: Holding[] = [];
  while (!devicesFor(room, want, wish, evicted)) {
    const next = smallestFirst.pop();
    if (!next) return undefined;
    evicted.push(next);
  }
  // The largest went first: some of them may have been for nothing.
  for (const one of evicted) {
    const others = evicted.filter((other) => other !== one);
    if (devicesFor(room, want, wish, others)) evicted = others;
  }
  return { room, evicted, gpus: devicesFor(room, want, wish, evicted)! };
}

/** The devices it would have if these gave way, none where it wants none; undefined where it has no room even so. */
function devicesFor(room: HostRoom, want: Want, wish: GpuWish | undefined, evicted: readonly Holding[]) {
  let { cpuFree, memoryFree } = room;
  for (const { cpu, memory } of evicted) {
    cpuFree += microCores(cpu);
    memoryFree += memory;
  }
  if (want.cpu > room.profile.cpuOfOne || want.cpu > cpuFree || want.memory > memoryFree) return undefined;
  if (!wish) return [];
  const freed = evicted.flatMap(({ gpus }) => gpus);
  return room.devices?.choose(wish, freed, room.kept?.gpu);
}

function isBetter(made: MadeRoom, than: MadeRoom, image: string): boolean {
  const hasImage = made.room.images.has(image);
  if (hasImage !== than.room.images.has(image)) return hasImage;
  const more = made.evicted.length - than.evicted.length;
  if (more !== 0) return more < 0;
  const larger = sizeOf(made) - sizeOf(than);
  return larger !== 0 ? larger < 0 : made.room.hostId < than.room.hostId;
}

const sizeOf = ({ room, evicted }: MadeRoom) => evicted.reduce((sum, one) => sum + sizeIn(room, one), 0);

/** The largest share of its host that it holds. */
function sizeIn({ profile }: HostRoom, { cpu, memory, gpus }: Holding): number {
  const ofGpus = gpus.length > 0 ? gpus.length / Math.max(1, profile.gpusOf(ANY_GPU)) : 0;
  return Math.max(microCores(cpu) / profile.cpu, memory / profile.memory, ofGpus);
}
