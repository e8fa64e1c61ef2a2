import { ANY_GPU } from "../../contract/gpu.ts";
import type { Fleet } from "./fleet.ts";
import type { Demand, Impossibility } from "./model.ts";
import type { Profile } from "./profile.ts";
import { microCores } from "./want.ts";

/**
 * Why no host could have it were all of them empty: the fields that are at fault, and what there is. Undefined where one could; and
 * where no host is known at all, or not the only one that may have it: those may come.
 */
export function whyImpossible(fleet: Fleet, demand: Demand): Impossibility[] | undefined {
  const { hosts } = demand;
  const all = [...fleet.profiles()].filter((profile) => profile.hosts.size > 0);
  if (all.length === 0) return undefined;
  let among = all;
  if (hosts.onlyHost !== undefined) {
    const only = fleet.room(hosts.onlyHost);
    if (!only) return undefined;
    among = [only.profile];
  }
  const admitted = among.filter((profile) => fleet.admitted(hosts).profiles.has(profile));
  if (admitted.length === 0) {
    const why = hosts.refusal?.(among.map(({ info }) => info)) ?? [];
    return why.length > 0 ? why : [{ path: "hosts", message: "is something that no host can serve" }];
  }
  return whyNoneHasRoom(admitted, demand);
}

function whyNoneHasRoom(profiles: readonly Profile[], demand: Demand): Impossibility[] | undefined {
  const { memory, gpus } = demand;
  const cpu = microCores(demand.cpu);
  const hasGpus = (profile: Profile) =>
    gpus.length === 0 || gpus.some(({ type, count }) => profile.gpusOf(type) >= count);
  const withGpus = profiles.filter(hasGpus);
  if (withGpus.some((profile) => cpu <= profile.cpuOfOne && memory <= profile.memory)) return undefined;

  const why: Impossibility[] = [];
  if (withGpus.length === 0) why.push({ path: "gpu", message: whatGpus(profiles) });
  // Sizes are judged where the GPUs are; where there are none, by what there is at all.
  const judged = withGpus.length > 0 ? withGpus : profiles;
  const where = withGpus.length > 0 && gpus.length > 0 ? " with such GPUs" : "";
  const most = (of: readonly Profile[], amount: (profile: Profile) => number) => Math.max(...of.map(amount));
  const mostCpu = most(judged, ({ cpuOfOne }) => cpuOfOne);
  const mostMemory = most(judged, (profile) => profile.memory);
  if (cpu > mostCpu) why.push({ path: "cpu", message: `must be at most ${mostCpu / 1e6}: no host${where} has more` });
  if (memory > mostMemory) {
    why.push({ path: "memory", message: `must be at most ${mostMemory}: no host${where} has more` });
  }
  if (why.length > 0) return why;
  // Each is to be had, but not together.
  const left = most(
    judged.filter(({ cpuOfOne }) => cpuOfOne >= cpu),
    (profile) => profile.memory,
  );
  return [{ path: "memory", message: `must be at most ${left} with ${demand.cpu} cores: no host${where} has more` }];
}

function whatGpus(profiles: readonly Profile[]): string {
  const most = new Map<string, number>();
  for (const profile of profiles) {
    for (const [type, count] of profile.gpus) {
      if (type !== ANY_GPU) most.set(type, Math.max(count, most.get(type) ?? 0));
    }
  }
  if (most.size === 0) return "is not to be had: no host that may have it has GPUs";
  const offers = [...most].sort(([a], [b]) => (a < b ? -1 : 1)).map(([type, count]) => `${type}:${count}`);
  return `is on no host: at most ${offers.join(", ")}`;
}
