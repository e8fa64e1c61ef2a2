import { ANY_GPU, type GpuWish } from "../../contract/gpu.ts";
import { CountIndex } from "./count-index.ts";
import { GpuIndex } from "./gpu-index.ts";
import type { HostRoom } from "./host-room.ts";
import { cpuLevelOf, LevelIndex, memoryLevelOf } from "./level-index.ts";
import type { Profile } from "./profile.ts";
import type { Want } from "./want.ts";

type Sizes = Omit<Profile, "group">;

/**
 * Hosts of one group are about equally large, with the same GPUs, in one region. They need not say the same: labels may be of one
 * host only, and machines of one kind differ by some MiB.
 */
export function groupKeyOf({ info, cpu, memory, gpus }: Sizes): string {
  const counts = Array.from(gpus, ([type, count]) => `${type}:${count}`).sort();
  const levels = cpu === Infinity ? "boundless" : `${cpuLevelOf(cpu)} ${memoryLevelOf(memory)}`;
  return [info.runtime, info.region ?? "", levels, ...counts].join("\n");
}

/** Which hosts of a group have how much room now. */
export class HostGroup {
  readonly gpus: ReadonlyMap<string, number>;
  /** Open hosts that hold something that gives way. */
  readonly withWarm = new Set<HostRoom>();
  readonly #levels: LevelIndex<HostRoom> | undefined;
  readonly #byHoldings: CountIndex<HostRoom> | undefined;
  readonly #byFreeGpus = new Map<string, GpuIndex<HostRoom>>();

  /** `first`: one of its hosts. */
  constructor(first: Sizes) {
    const { cpu, memory, gpus } = first;
    this.gpus = gpus;
    for (const [type, count] of gpus) this.#byFreeGpus.set(type, new GpuIndex(cpu, memory, count));
    if (cpu === Infinity) this.#byHoldings = new CountIndex();
    else if (gpus.size === 0) this.#levels = new LevelIndex(cpu, memory);
  }

  get hasGpus(): boolean {
    return this.gpus.size > 0;
  }

  gpusOf(type: string): number {
    return this.gpus.get(type) ?? 0;
  }

  /** To be told whenever there is more room on a host, or less. */
  index(room: HostRoom): void {
    if (!room.isOpen) return this.unindex(room);
    this.#levels?.put(room, room.cpuFree, room.memoryFree);
    this.#byHoldings?.put(room, room.holdings.size);
    for (const [type, index] of this.#byFreeGpus) index.put(room, room.gpusFree(type), room.cpuFree, room.memoryFree);
    if (room.warm.size > 0) this.withWarm.add(room);
    else this.withWarm.delete(room);
  }

  unindex(room: HostRoom): void {
    this.#levels?.delete(room);
    this.#byHoldings?.delete(room);
    for (const index of this.#byFreeGpus.values()) index.delete(room);
    this.withWarm.delete(room);
  }

  /** The open hosts that may have room: with the fewest free devices of the wish, or of any kind, first, then the fullest. */
  visit({ cpu, memory }: Want, wish: GpuWish | undefined, visit: (room: HostRoom) => boolean): void {
    this.#levels?.visit(cpu, memory, visit);
    this.#byHoldings?.visit(visit);
    this.#byFreeGpus.get(wish?.type ?? ANY_GPU)?.visit(wish?.count ?? 0, cpu, memory, visit);
  }

  /** The open hosts that lack least: with the most free devices of a type where one is given, then the emptiest. */
  visitEmptiest(type: string | undefined, visit: (room: HostRoom) => boolean): void {
    this.#levels?.visitEmptiest(visit);
    this.#byFreeGpus.get(type ?? ANY_GPU)?.visitEmptiest(visit);
  }
}
