import { DEFAULT_CPU, DEFAULT_MEMORY } from "../../contract/fields.ts";

/**
 * The sizes that the platform has: https://developers.cloudflare.com/containers/platform/limits/. Its custom ones begin at one
 * whole vCPU with 3 GiB, so every request gets the smallest of these that has what it asks for.
 */
const INSTANCE_TYPES = [
  { name: "lite", cpu: 0.0625, memory: 256 },
  { name: "basic", cpu: 0.25, memory: 1024 },
  { name: "standard-1", cpu: 0.5, memory: 4096 },
  { name: "standard-2", cpu: 1, memory: 6144 },
  { name: "standard-3", cpu: 2, memory: 8192 },
  { name: "standard-4", cpu: 4, memory: 12_288 },
] as const;

export type InstanceTypeName = (typeof INSTANCE_TYPES)[number]["name"];

const LARGEST = INSTANCE_TYPES[INSTANCE_TYPES.length - 1]!;
/** Cores. */
export const MAX_CPU = LARGEST.cpu;
/** MiB */
export const MAX_MEMORY_MIB = LARGEST.memory;

/** The smallest size that has so many cores and so much memory (MiB). */
export function instanceTypeFor({
  cpu,
  memory,
}: {
  cpu?: number | undefined;
  memory?: number | undefined;
}): InstanceTypeName {
  const wanted = { cpu: cpu ?? DEFAULT_CPU, memory: memory ?? DEFAULT_MEMORY };
  const fits = INSTANCE_TYPES.find((type) => type.cpu >= wanted.cpu && type.memory >= wanted.memory);
  return (fits ?? LARGEST).name;
}
