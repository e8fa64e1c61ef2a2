import { z } from "zod";

/**
 * The types of GPU that everybody knows, as users name them. A host may have others: their names are made of what their driver
 * calls them.
 */
export const KNOWN_GPU_TYPES = [
  "T4",
  "L4",
  "A10",
  "L40S",
  "A100-40GB",
  "A100-80GB",
  "RTX-PRO-6000",
  "H100",
  "H200",
  "B200",
  "B300",
] as const;

/** Takes the first type of which there is one free. */
export const ANY_GPU = "ANY";
export const MAX_GPUS = 8;
/** Through which NVIDIA's own tools let a container have devices: never the user's to set. */
export const GPU_VARIABLE = "NVIDIA_VISIBLE_DEVICES";

/** Names for the same, and for several. */
const MEANINGS: Record<string, readonly string[]> = {
  A10G: ["A10"],
  A100: ["A100-40GB", "A100-80GB"],
  // May be given the larger one; `H100!` may not.
  H100: ["H100", "H200"],
  "H100!": ["H100"],
};

const TYPE = /^[A-Z0-9][A-Z0-9-]{0,62}!?$/;
const ONE = /^([^:]+?)(?::([1-9]\d{0,3}))?$/;

/** So many devices of one type, all on one host. */
export interface GpuWish {
  type: string;
  count: number;
}

/**
 * Reads `TYPE[:N]`, or an ordered preference of such by commas: what is to be tried, the best first. A message where the text is none.
 */
export function parseGpu(text: string): GpuWish[] | string {
  const wishes: GpuWish[] = [];
  for (const one of text.toUpperCase().split(",")) {
    const [, type = "", count = "1"] = ONE.exec(one.trim()) ?? [];
    if (!TYPE.test(type) || (type.endsWith("!") && !(type in MEANINGS))) {
      return `must be TYPE[:1-${MAX_GPUS}], or such a list by commas`;
    }
    if (Number(count) > MAX_GPUS) return `must not ask for more than ${MAX_GPUS} devices`;
    for (const meant of MEANINGS[type] ?? [type]) wishes.push({ type: meant, count: Number(count) });
  }
  return wishes;
}

const MAX_GPU_CHARACTERS = 256;

/** As `parseGpu` reads it; upper-cased. */
export const GpuSchema = z
  .string()
  .max(MAX_GPU_CHARACTERS)
  .transform((gpu) => gpu.toUpperCase())
  .superRefine((gpu, context) => {
    const wishes = parseGpu(gpu);
    if (typeof wishes === "string") context.addIssue({ code: "custom", message: wishes });
  })
  .meta({ type: "string" });

/** How the driver names one device: `GPU-…`, or a MIG slice of one. */
export const GpuUuidSchema = z.string().regex(/^(GPU|MIG)-[A-Za-z0-9-]{1,120}$/, "must be the UUID of a GPU");

/** One device of a host. `memory` in MiB; `name` is the driver's. */
export const GpuDeviceSchema = z.object({
  uuid: GpuUuidSchema,
  type: z
    .string()
    .regex(/^[A-Z0-9][A-Z0-9-]{0,62}$/, "must be the name of a type of GPU")
    // What stands for all types is none: its devices would be counted twice.
    .refine((type) => type !== ANY_GPU, `must not be ${ANY_GPU}`),
  name: z.string().max(256),
  memory: z.int().min(0),
});
export type GpuDevice = z.infer<typeof GpuDeviceSchema>;
