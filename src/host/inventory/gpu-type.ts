import { GpuDeviceSchema, KNOWN_GPU_TYPES } from "../../contract/gpu.ts";

type KnownType = (typeof KNOWN_GPU_TYPES)[number];

/** What drivers call the known ones, without the maker's name in front. The `A100` has its memory in its type, and not always in its name. */
const KNOWN: readonly (readonly [RegExp, KnownType])[] = [
  [/^T4$/, "T4"],
  [/^L4$/, "L4"],
  [/^A10G?$/, "A10"],
  [/^L40S$/, "L40S"],
  [/^A100\b.*\b40 ?GB\b/, "A100-40GB"],
  [/^A100\b.*\b80 ?GB\b/, "A100-80GB"],
  [/^RTX PRO 6000\b/, "RTX-PRO-6000"],
  [/^H100\b/, "H100"],
  [/^H200\b/, "H200"],
  [/^B200\b/, "B200"],
  [/^B300\b/, "B300"],
];
const MAKER = /^(?:(?:NVIDIA|TESLA) +)+/;
const MIB_PER_GIB = 1024;
const UNNAMED = "GPU";

/** The type by which users name a device, from what its driver calls it and its memory in MiB; one that nobody knows is called as the driver does. */
export function gpuTypeOf(driverName: string, memory: number): string {
  const name = driverName.trim().toUpperCase().replace(MAKER, "");
  const known = KNOWN.find(([pattern]) => pattern.test(name));
  if (known) return known[1];
  if (/^A100\b/.test(name)) return memory > 60 * MIB_PER_GIB ? "A100-80GB" : "A100-40GB";
  const type = name
    .replaceAll(/[^A-Z0-9]+/g, "-")
    .slice(0, 63)
    .replaceAll(/^-|-$/g, "");
  return GpuDeviceSchema.shape.type.safeParse(type).success ? type : UNNAMED;
}
