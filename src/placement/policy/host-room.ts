import { ANY_GPU, type GpuWish } from "../../contract/gpu.ts";
import { Devices } from "./devices.ts";
import type { FleetHost, Holding } from "./model.ts";
import type { Profile } from "./profile.ts";
import { microCores, type Want } from "./want.ts";

/** What is kept free for one that has waited long. */
export interface Kept {
  cpu: number;
  memory: number;
  gpu?: GpuWish | undefined;
}

/** One host: what is promised of it, and what is left. */
export class HostRoom {
  readonly hostId: string;
  readonly profile: Profile;
  isOpen: boolean;
  images: ReadonlySet<string>;
  readonly holdings = new Map<string, Holding>();
  readonly warm = new Set<Holding>();
  readonly devices: Devices | undefined;
  #kept: Kept | undefined;
  #cpuUsed = 0;
  #memoryUsed = 0;
  #warmCpu = 0;
  #warmMemory = 0;
  #warmGpus = 0;

  constructor(host: FleetHost, profile: Profile) {
    this.hostId = host.hostId;
    this.profile = profile;
    this.isOpen = host.isOpen;
    this.images = host.images;
    this.devices = profile.hasGpus ? new Devices(host.info.capacity!.gpus) : undefined;
  }

  charge(holding: Holding): void {
    this.holdings.set(holding.id, holding);
    this.#count(holding, 1);
    if (holding.gpus.length > 0) this.devices?.charge(holding.gpus);
    if (holding.isWarm) this.warm.add(holding);
  }

  release(holding: Holding): void {
    this.holdings.delete(holding.id);
    this.#count(holding, -1);
    if (holding.gpus.length > 0) this.devices?.release(holding.gpus);
    this.warm.delete(holding);
  }

  get kept(): Kept | undefined {
    return this.#kept;
  }

  keep(kept: Kept | undefined): void {
    this.#kept = kept;
  }

  /** Millionths of a core; below 0 where more is promised than there is. */
  get cpuFree(): number {
    return this.profile.cpu - this.#cpuUsed - (this.#kept?.cpu ?? 0);
  }

  get memoryFree(): number {
    return this.profile.memory - this.#memoryUsed - (this.#kept?.memory ?? 0);
  }

  get cpuUsed(): number {
    return this.#cpuUsed;
  }

  get memoryUsed(): number {
    return this.#memoryUsed;
  }

  gpusFree(type: string): number {
    if (!this.devices) return 0;
    const kept = this.#kept?.gpu;
    const free = this.devices.free(type);
    if (!kept) return free;
    if (kept.type === type) return Math.max(0, free - kept.count);
    if (kept.type !== ANY_GPU && type !== ANY_GPU) return free;
    return Math.max(0, Math.min(free, this.devices.free(ANY_GPU) - kept.count));
  }

  /** The share of what is scarcest that is promised once this is, too; below 0, by how much is there, where the host has no bounds. */
  fullnessWith({ cpu, memory }: Pick<Want, "cpu" | "memory">): number {
    if (this.profile.cpu === Infinity) return -this.holdings.size;
    return Math.max((this.#cpuUsed + cpu) / this.profile.cpu, (this.#memoryUsed + memory) / this.profile.memory);
  }

  fits(want: Want, wish: GpuWish | undefined): boolean {
    if (want.cpu > this.profile.cpuOfOne || want.cpu > this.cpuFree || want.memory > this.memoryFree) return false;
    return !wish || this.gpusFree(wish.type) >= wish.count;
  }

  /** False where it has no room however many warm containers give way; true is no promise. */
  mayFit(want: Want): boolean {
    if (want.cpu > this.profile.cpuOfOne || want.cpu > this.cpuFree + this.#warmCpu) return false;
    if (want.memory > this.memoryFree + this.#warmMemory) return false;
    if (want.gpus.length === 0) return true;
    return want.gpus.some((wish) => this.gpusFree(wish.type) + this.#warmGpus >= wish.count);
  }

  /** Whether an empty one has room for it. */
  couldFit(want: Want, wish: GpuWish | undefined): boolean {
    const { cpuOfOne, memory } = this.profile;
    return want.cpu <= cpuOfOne && want.memory <= memory && (!wish || this.profile.gpusOf(wish.type) >= wish.count);
  }

  #count(holding: Holding, sign: 1 | -1): void {
    const cpu = sign * microCores(holding.cpu);
    const memory = sign * holding.memory;
    this.#cpuUsed += cpu;
    this.#memoryUsed += memory;
    if (!holding.isWarm) return;
    this.#warmCpu += cpu;
    this.#warmMemory += memory;
    this.#warmGpus += sign * holding.gpus.length;
  }
}
