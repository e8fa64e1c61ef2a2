import { ANY_GPU } from "../../contract/gpu.ts";
import type { HostInfo } from "../../contract/host-info.ts";
import type { HostGroup } from "./host-group.ts";
import type { HostRoom } from "./host-room.ts";
import { microCores } from "./want.ts";

/** Hosts of one profile say the same of themselves, apart from who they are and which devices of a type they have. */
export function profileKeyOf(info: HostInfo): string {
  const { host_id: _, version: _version, capacity, ...rest } = info;
  if (!capacity) return JSON.stringify(rest);
  const { gpus, ...sizes } = capacity;
  return JSON.stringify([rest, sizes, [...countsOf(gpus)].sort()]);
}

function countsOf(devices: readonly { type: string }[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { type } of devices) counts.set(type, (counts.get(type) ?? 0) + 1);
  return counts;
}

/** What hosts say of themselves, and what such a host has when it is empty. */
export class Profile {
  readonly info: Omit<HostInfo, "host_id">;
  /** Millionths of a core, overcommitted; MiB. Infinite where the hosts do not know. */
  readonly cpu: number;
  readonly memory: number;
  /** What one container can have at most. */
  readonly cpuOfOne: number;
  /** How many there are of a type; of `ANY`: of all. */
  readonly gpus: ReadonlyMap<string, number>;
  /** All of them, open or not. */
  readonly hosts = new Set<HostRoom>();
  readonly group: HostGroup;

  /** `groupOf`: the group to which such a host belongs. */
  constructor(info: Omit<HostInfo, "host_id">, groupOf: (profile: Omit<Profile, "group">) => HostGroup) {
    const { capacity } = info;
    this.info = info;
    this.cpu = capacity ? microCores(capacity.cpu * capacity.cpu_overcommit) : Infinity;
    this.cpuOfOne = capacity ? microCores(capacity.cpu) : Infinity;
    this.memory = capacity?.memory ?? Infinity;
    const gpus = countsOf(capacity?.gpus ?? []);
    if (gpus.size > 0) gpus.set(ANY_GPU, capacity!.gpus.length);
    this.gpus = gpus;
    this.group = groupOf(this);
  }

  get hasGpus(): boolean {
    return this.gpus.size > 0;
  }

  gpusOf(type: string): number {
    return this.gpus.get(type) ?? 0;
  }
}
