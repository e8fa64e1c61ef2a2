import type { GpuWish } from "../../contract/gpu.ts";
import type { Demand, HostClass } from "./model.ts";

/** Whole millionths of a core: sums of them are exact, so that what is released is what was charged. */
export const microCores = (cores: number) => Math.round(cores * 1e6);

/** What a demand asks for, apart from whose it is: what has room for one of a `key` has room for the other. */
export interface Want {
  key: string;
  /** Millionths of a core. */
  cpu: number;
  /** MiB. */
  memory: number;
  /** None: an empty wish list. */
  gpus: readonly GpuWish[];
  hosts: HostClass;
  excluded: ReadonlySet<string>;
}

const NONE: ReadonlySet<string> = new Set();

export function wantOf(demand: Demand, excluded = NONE): Want {
  const { hosts, memory, gpus } = demand;
  const cpu = microCores(demand.cpu);
  let key = `${cpu} ${memory}`;
  for (const { type, count } of gpus) key += ` ${type}:${count}`;
  key += `\n${hosts.key}\n${hosts.onlyHost ?? ""}`;
  if (excluded.size > 0) key += `\n${[...excluded].sort().join(" ")}`;
  return { key, cpu, memory, gpus, hosts, excluded };
}

/** Whether a host with room for `than` has room for it, where both may go there. */
export function isNoMore(want: Want, than: Want): boolean {
  if (want.cpu > than.cpu || want.memory > than.memory) return false;
  if (want.hosts.key !== than.hosts.key || want.hosts.onlyHost !== than.hosts.onlyHost) return false;
  if (want.gpus.length === 0) return true;
  return (
    than.gpus.length > 0 &&
    than.gpus.every((one) => want.gpus.some(({ type, count }) => type === one.type && count <= one.count))
  );
}
