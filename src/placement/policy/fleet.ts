import { ANY_GPU } from "../../contract/gpu.ts";
import { HostClasses, type Admission } from "./host-classes.ts";
import { groupKeyOf, HostGroup } from "./host-group.ts";
import { HostRoom, type Kept } from "./host-room.ts";
import type { FleetHost, Holding, HostClass } from "./model.ts";
import { Profile, profileKeyOf } from "./profile.ts";
import type { Want } from "./want.ts";

/** Profiles without hosts that stay: a host that comes back is not judged anew. */
const MAX_EMPTY_PROFILES = 1000;

/** All hosts, and the indexes by which one is found. */
export class Fleet {
  readonly #rooms = new Map<string, HostRoom>();
  readonly #profiles = new Map<string, Profile>();
  readonly #groups = new Map<string, HostGroup>();
  readonly #classes = new HostClasses();
  readonly #byImage = new Map<string, Set<HostRoom>>();
  /** What the hosts have, as far as they know. */
  readonly total = { cpu: 0, memory: 0, gpus: 0 };
  /** Changes whenever there is another host, or one opens. */
  revision = 0;

  room(hostId: string): HostRoom | undefined {
    return this.#rooms.get(hostId);
  }

  rooms(): Iterable<HostRoom> {
    return this.#rooms.values();
  }

  get size(): number {
    return this.#rooms.size;
  }

  /**
   * Takes in what a host says. `replaced`: what was known of it is void, and its room is a new one, without holdings. `opened`:
   * there may be more room than before.
   */
  put(host: FleetHost): { room: HostRoom; replaced?: HostRoom | undefined; isNew: boolean; opened: boolean } {
    const key = profileKeyOf(host.info);
    const room = this.#rooms.get(host.hostId);
    const isSame = room && this.#profiles.get(key) === room.profile;
    if (isSame && (!room.devices || room.devices.isOf(host.info.capacity?.gpus ?? []))) {
      this.#putImages(room, host.images);
      const opened = host.isOpen && !room.isOpen;
      if (host.isOpen !== room.isOpen) {
        room.isOpen = host.isOpen;
        room.profile.group.index(room);
        this.revision++;
      }
      return { room, isNew: false, opened };
    }
    this.remove(host.hostId);
    const added = new HostRoom(host, this.#profile(key, host));
    this.#rooms.set(host.hostId, added);
    added.profile.hosts.add(added);
    this.#count(added, 1);
    for (const image of added.images) this.#hold(image, added);
    added.profile.group.index(added);
    return { room: added, replaced: room, isNew: true, opened: host.isOpen };
  }

  remove(hostId: string): void {
    const room = this.#rooms.get(hostId);
    if (!room) return;
    this.#rooms.delete(hostId);
    room.profile.group.unindex(room);
    room.profile.hosts.delete(room);
    this.#count(room, -1);
    for (const image of room.images) this.#drop(image, room);
    room.isOpen = false;
  }

  charge(room: HostRoom, holding: Holding): void {
    room.charge(holding);
    room.profile.group.index(room);
  }

  release(room: HostRoom, holding: Holding): void {
    room.release(holding);
    room.profile.group.index(room);
  }

  keep(room: HostRoom, kept: Kept | undefined): void {
    room.keep(kept);
    room.profile.group.index(room);
  }

  /** Whether there may now be more room than before. */
  occupy(room: HostRoom, gpus: readonly string[]): boolean {
    const { devices } = room;
    if (!devices || (gpus.length === devices.occupied.size && gpus.every((uuid) => devices.occupied.has(uuid)))) {
      return false;
    }
    const before = devices.free(ANY_GPU);
    const freed = [...devices.occupied].some((uuid) => !gpus.includes(uuid));
    devices.occupy(new Set(gpus));
    room.profile.group.index(room);
    return freed || devices.free(ANY_GPU) > before;
  }

  profiles(): Iterable<Profile> {
    return this.#profiles.values();
  }

  admitted(hosts: HostClass): Admission {
    return this.#classes.admitted(hosts);
  }

  /** Whether a host may have it, however full it is. */
  suits(room: HostRoom, want: Want): boolean {
    const { hosts, excluded } = want;
    if (!room.isOpen || excluded.has(room.hostId)) return false;
    return (hosts.onlyHost ?? room.hostId) === room.hostId && this.admitted(hosts).has(room);
  }

  /** The hosts that have an image. */
  holders(image: string): ReadonlySet<HostRoom> | undefined {
    return this.#byImage.get(image);
  }

  #profile(key: string, host: FleetHost): Profile {
    const known = this.#profiles.get(key);
    if (known) return known;
    const profile = new Profile(host.info, (sizes) => this.#group(sizes));
    this.#profiles.set(key, profile);
    this.#classes.add(profile);
    if (this.#profiles.size > MAX_EMPTY_PROFILES + 2 * this.#rooms.size) this.#forgetEmpty(profile);
    return profile;
  }

  #group(sizes: Omit<Profile, "group">): HostGroup {
    const key = groupKeyOf(sizes);
    const known = this.#groups.get(key);
    if (known) return known;
    const group = new HostGroup(sizes);
    this.#groups.set(key, group);
    return group;
  }

  #forgetEmpty(but: Profile): void {
    const empty = new Set<Profile>();
    for (const [key, profile] of this.#profiles) {
      if (profile.hosts.size > 0 || profile === but) continue;
      empty.add(profile);
      this.#profiles.delete(key);
    }
    this.#classes.forget(empty);
  }

  #count(room: HostRoom, sign: 1 | -1): void {
    this.revision++;
    const { cpu, memory } = room.profile;
    if (cpu === Infinity) return;
    this.total.cpu += sign * cpu;
    this.total.memory += sign * memory;
    this.total.gpus += sign * room.profile.gpusOf(ANY_GPU);
  }

  #putImages(room: HostRoom, images: ReadonlySet<string>): void {
    const had = room.images;
    if (images === had) return;
    room.images = images;
    for (const image of images) if (!had.has(image)) this.#hold(image, room);
    for (const image of had) if (!images.has(image)) this.#drop(image, room);
  }

  #hold(image: string, room: HostRoom): void {
    const holders = this.#byImage.get(image);
    if (holders) holders.add(room);
    else this.#byImage.set(image, new Set([room]));
  }

  #drop(image: string, room: HostRoom): void {
    const holders = this.#byImage.get(image);
    holders?.delete(room);
    if (holders?.size === 0) this.#byImage.delete(image);
  }
}
