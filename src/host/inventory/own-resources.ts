import { availableParallelism, totalmem } from "node:os";

const BYTES_PER_MIB = 1_048_576;

/** Cores that this process may use, whatever the machine has: its affinity and its control group count. */
export const ownCpu = (): number => availableParallelism();

/** MiB that this process and all that it starts may use, whatever the machine has. */
export function ownMemory(): number {
  // 0 where there is no limit, or one beyond all memory.
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  return Math.max(1, Math.floor(Math.min(totalmem(), limit) / BYTES_PER_MIB));
}
