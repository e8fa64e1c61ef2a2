import type { Fleet } from "./fleet.ts";
import type { Holding, Totals, Use } from "./model.ts";

/** What these are together. */
export function useOf(holdings: Iterable<Holding>): Use {
  const use: Use = { sandboxes: 0, warm: 0, cpu: 0, memory: 0, gpus: 0 };
  for (const { isWarm, cpu, memory, gpus } of holdings) {
    if (isWarm) use.warm++;
    else use.sandboxes++;
    use.cpu += cpu;
    use.memory += memory;
    use.gpus += gpus.length;
  }
  return use;
}

/** What all known hosts have, and what is promised of it. */
export function totalsOf(fleet: Fleet, queued: number): Totals {
  const used: Use = { sandboxes: 0, warm: 0, cpu: 0, memory: 0, gpus: 0 };
  let open = 0;
  let kept = 0;
  for (const room of fleet.rooms()) {
    if (room.isOpen) open++;
    if (room.kept) kept++;
    used.warm += room.warm.size;
    used.sandboxes += room.holdings.size - room.warm.size;
    used.cpu += room.cpuUsed / 1e6;
    used.memory += room.memoryUsed;
    used.gpus += room.devices?.held ?? 0;
  }
  const { cpu, memory, gpus } = fleet.total;
  return { hosts: fleet.size, open, cpu: cpu / 1e6, memory, gpus, used, queued, kept };
}
