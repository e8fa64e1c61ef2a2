import type { CloudflareProcess } from "./process.ts";
import type { CloudflareProcesses } from "./processes.ts";
import type { CloudflareStore } from "./store.ts";

/** What all outputs of a sandbox may take in the object's storage. */
export const MAX_OUTPUT_BYTES = 512 * 1024 * 1024;
/** What is left to each output of a process that runs, when all of them together are too much. */
const LAST_BYTES = 256 * 1024;

/** Keeps the outputs within the bound: those that ended first go first, then those that run are shortened. */
export function keepWithinBudget(
  store: CloudflareStore,
  processes: CloudflareProcesses,
  maxBytes = MAX_OUTPUT_BYTES,
): void {
  if (store.outputBytes <= maxBytes) return;
  const endOf = ({ exit }: CloudflareProcess) => exit?.at ?? 0;
  const ended = processes.all.filter(({ exit }) => exit).toSorted((one, other) => endOf(one) - endOf(other));
  const running = processes.all.filter(({ exit }) => !exit);
  for (const { logs } of ended) {
    for (const log of Object.values(logs)) log.discard();
    if (store.outputBytes <= maxBytes) return;
  }
  for (const { logs } of running) {
    for (const log of Object.values(logs)) log.shorten(LAST_BYTES);
    if (store.outputBytes <= maxBytes) return;
  }
}
