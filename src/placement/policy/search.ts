import { ANY_GPU, type GpuWish } from "../../contract/gpu.ts";
import type { Fleet } from "./fleet.ts";
import type { HostGroup } from "./host-group.ts";
import type { HostRoom } from "./host-room.ts";
import type { Want } from "./want.ts";

/** An image on no more hosts than these: they are looked at one by one. */
const FEW_HOLDERS = 64;
/** So many hosts of a group, and of all, are looked at for one that has the image, before all those that have it are. */
const IMAGE_BUDGET = 16;
const WHOLE_IMAGE_BUDGET = 256;
/** So many that fit are compared in one group: they are about equally full. */
const SAMPLE = 8;

export interface Found {
  room: HostRoom;
  wish: GpuWish | undefined;
}

/**
 * The best host with room: for the first wish that any host can serve; with the image where one of those has it; then, without a
 * wish, one without GPUs; where fewest devices are free; then the fullest, so that large ones find room elsewhere.
 */
export function findRoom(fleet: Fleet, want: Want, image: string): Found | undefined {
  if (want.gpus.length === 0) return found(findFor(fleet, want, undefined, image), undefined);
  for (const wish of want.gpus) {
    const result = found(findFor(fleet, want, wish, image), wish);
    if (result) return result;
  }
  return undefined;
}

/** The same among these only. */
export function findRoomAmong(fleet: Fleet, want: Want, image: string, rooms: Iterable<HostRoom>): Found | undefined {
  const wishes = want.gpus.length > 0 ? want.gpus : [undefined];
  for (const wish of wishes) {
    const result = found(findAmong(fleet, want, wish, image, rooms), wish);
    if (result) return result;
  }
  return undefined;
}

function findAmong(
  fleet: Fleet,
  want: Want,
  wish: GpuWish | undefined,
  image: string,
  rooms: Iterable<HostRoom>,
): HostRoom | undefined {
  const suited = Array.from(rooms).filter((room) => room.fits(want, wish) && fleet.suits(room, want));
  const holders = suited.filter((room) => room.images.has(image));
  return bestOf(fleet, want, wish, holders.length > 0 ? holders : suited);
}

const found = (room: HostRoom | undefined, wish: GpuWish | undefined) => room && { room, wish };

function findFor(fleet: Fleet, want: Want, wish: GpuWish | undefined, image: string): HostRoom | undefined {
  const { onlyHost } = want.hosts;
  if (onlyHost !== undefined) {
    const room = fleet.room(onlyHost);
    return room && fleet.suits(room, want) && room.fits(want, wish) ? room : undefined;
  }
  const few = fleet.admitted(want.hosts).few();
  if (few) return findAmong(fleet, want, wish, image, few);
  const holders = fleet.holders(image);
  if (holders) {
    const walked = holders.size > FEW_HOLDERS ? walk(fleet, want, wish, holders) : undefined;
    const holder = walked ?? bestOf(fleet, want, wish, holders);
    if (holder) return holder;
  }
  return walk(fleet, want, wish);
}

function bestOf(fleet: Fleet, want: Want, wish: GpuWish | undefined, rooms: Iterable<HostRoom>): HostRoom | undefined {
  const admitted = fleet.admitted(want.hosts);
  let best: HostRoom | undefined;
  for (const room of rooms) {
    if (!room.isOpen || !room.fits(want, wish) || !admitted.has(room)) continue;
    if (want.excluded.has(room.hostId)) continue;
    if (!best || isBetter(room, best, want, wish)) best = room;
  }
  return best;
}

/** Through the indexes. Of `holders` only, where given; undefined also where none of those came up soon. */
function walk(
  fleet: Fleet,
  want: Want,
  wish: GpuWish | undefined,
  holders?: ReadonlySet<HostRoom>,
): HostRoom | undefined {
  let best: HostRoom | undefined;
  let wasCut = false;
  let whole = WHOLE_IMAGE_BUDGET;
  const admitted = fleet.admitted(want.hosts);
  const search = (isAsked: (group: HostGroup) => boolean): void => {
    for (const group of admitted.groups) {
      if (!isAsked(group)) continue;
      let compared = 0;
      let budget = IMAGE_BUDGET;
      const visit = (room: HostRoom): boolean => {
        if (holders && (budget-- <= 0 || whole-- <= 0)) return (wasCut = true);
        if (!room.fits(want, wish) || holders?.has(room) === false) return false;
        if (!admitted.has(room) || want.excluded.has(room.hostId)) return false;
        if (!best || isBetter(room, best, want, wish)) best = room;
        return ++compared === SAMPLE;
      };
      group.visit(want, wish, visit);
    }
  };
  if (wish) search((group) => group.gpusOf(wish.type) >= wish.count);
  else search(({ hasGpus }) => !hasGpus);
  // With GPUs only where there are none without: also of those that were not come to.
  if (!wish && !best && !wasCut) search(({ hasGpus }) => hasGpus);
  return best;
}

function isBetter(room: HostRoom, than: HostRoom, want: Want, wish: GpuWish | undefined): boolean {
  if (wish?.type === ANY_GPU) {
    const isWhole = hasOfOneType(room, wish.count);
    if (isWhole !== hasOfOneType(than, wish.count)) return isWhole;
  }
  if (!wish && room.profile.hasGpus !== than.profile.hasGpus) return !room.profile.hasGpus;
  const type = wish?.type ?? ANY_GPU;
  const more = room.gpusFree(type) - than.gpusFree(type);
  if (more !== 0) return more < 0;
  const fuller = room.fullnessWith(want) - than.fullnessWith(want);
  return fuller !== 0 ? fuller > 0 : room.hostId < than.hostId;
}

function hasOfOneType(room: HostRoom, count: number): boolean {
  for (const type of room.profile.gpus.keys()) if (type !== ANY_GPU && room.gpusFree(type) >= count) return true;
  return false;
}
