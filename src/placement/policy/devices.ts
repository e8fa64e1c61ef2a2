import { ANY_GPU, type GpuDevice, type GpuWish } from "../../contract/gpu.ts";

/** The GPUs of one host, and which of them are free. */
export class Devices {
  readonly #devices: readonly Pick<GpuDevice, "uuid" | "type">[];
  /** By how many holdings: two, where storage said so of one device. */
  readonly #users = new Map<string, number>();
  #occupied: ReadonlySet<string> = new Set();
  readonly #free = new Map<string, number>();

  constructor(devices: readonly GpuDevice[]) {
    this.#devices = devices.map(({ uuid, type }) => ({ uuid, type }));
    this.#count();
  }

  isOf(devices: readonly GpuDevice[]): boolean {
    if (devices.length !== this.#devices.length) return false;
    return devices.every(({ uuid, type }, at) => {
      const known = this.#devices[at]!;
      return known.uuid === uuid && known.type === type;
    });
  }

  charge(uuids: readonly string[]): void {
    for (const uuid of uuids) this.#users.set(uuid, (this.#users.get(uuid) ?? 0) + 1);
    this.#count();
  }

  release(uuids: readonly string[]): void {
    for (const uuid of uuids) {
      const left = (this.#users.get(uuid) ?? 0) - 1;
      if (left > 0) this.#users.set(uuid, left);
      else this.#users.delete(uuid);
    }
    this.#count();
  }

  get occupied(): ReadonlySet<string> {
    return this.#occupied;
  }

  occupy(uuids: ReadonlySet<string>): void {
    this.#occupied = uuids;
    this.#count();
  }

  /** How many of a type are free; of `ANY`: of all. */
  free(type: string): number {
    return this.#free.get(type) ?? 0;
  }

  /** How many are held, whatever else may be in use. */
  get held(): number {
    return this.#users.size;
  }

  /**
   * Devices for a wish, which are those of `freed` too, or undefined. What is `kept` for another stays. `ANY` has all of one type,
   * of that of which fewest are left, and of several types only where there is no other way.
   */
  choose(wish: GpuWish, freed?: readonly string[], kept?: GpuWish): string[] | undefined {
    const byType = new Map<string, string[]>();
    for (const { uuid, type } of this.#devices) {
      if (!this.#isFree(uuid, freed)) continue;
      const same = byType.get(type);
      if (same) same.push(uuid);
      else byType.set(type, [uuid]);
    }
    let all = 0;
    for (const uuids of byType.values()) all += uuids.length;
    all -= kept?.count ?? 0;
    const left: string[][] = [];
    for (const [type, uuids] of byType) {
      const ofType = kept?.type === type ? uuids.length - kept.count : uuids.length;
      const most = kept?.type === ANY_GPU ? Math.min(ofType, all) : ofType;
      if (most > 0 && (wish.type === ANY_GPU || wish.type === type)) left.push(uuids.slice(0, most));
    }
    left.sort((a, b) => a.length - b.length);
    const ofOneType = left.find((uuids) => uuids.length >= wish.count);
    if (ofOneType) return ofOneType.slice(0, wish.count);
    if (wish.type !== ANY_GPU || all < wish.count) return undefined;
    const mixed = left.toReversed().flat();
    return mixed.length >= wish.count ? mixed.slice(0, wish.count) : undefined;
  }

  #isFree(uuid: string, freed?: readonly string[]): boolean {
    if (this.#occupied.has(uuid)) return false;
    const users = this.#users.get(uuid) ?? 0;
    return users === 0 || (users === 1 && freed?.includes(uuid) === true);
  }

  #count(): void {
    this.#free.clear();
    for (const { uuid, type } of this.#devices) {
      if (!this.#isFree(uuid)) continue;
      this.#free.set(type, this.free(type) + 1);
      this.#free.set(ANY_GPU, this.free(ANY_GPU) + 1);
    }
  }
}
