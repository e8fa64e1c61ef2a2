import { z } from "zod";
import { idSchema } from "./ids.ts";
import { SandboxCreateSchema } from "./sandbox.ts";

export const MAX_POOL_SIZE = 100;

const { image, cpu, memory, gpu, workdir, region, host_labels, block_network } = SandboxCreateSchema.shape;

/**
 * A warm pool: so many containers, started ahead. A create of its environment takes one when it asks for the same image, size, and place
 * (`image`, `cpu`, `memory`, `gpu`, `workdir`, `region`, `host_labels`, `block_network`), whatever else it asks for.
 */
export const PoolCreateSchema = z
  .strictObject({
    size: z.int().min(1).max(MAX_POOL_SIZE).meta({ description: "Containers to be kept ready." }),
    image,
    cpu,
    memory,
    gpu,
    workdir,
    region,
    host_labels,
    block_network,
  })
  .meta({ id: "PoolCreate" });
export type PoolCreate = z.infer<typeof PoolCreateSchema>;

/** A change of a pool. What is left out stays as it is. */
export const PoolPatchSchema = z
  .strictObject({ size: z.int().min(0).max(MAX_POOL_SIZE).optional().meta({ description: "0 keeps none ready." }) })
  .meta({ id: "PoolPatch" });
export type PoolPatch = z.infer<typeof PoolPatchSchema>;

/** `ready` and `starting` count its containers; `error` says why the last one that could not start did not. */
export const PoolSchema = z
  .object({
    pool_id: idSchema("pool"),
    size: z.int(),
    image: z.string(),
    cpu: z.number().optional(),
    memory: z.int().optional(),
    gpu: z.string().optional(),
    workdir: z.string().optional(),
    region: z.string().optional(),
    host_labels: z.record(z.string(), z.string()).optional(),
    block_network: z.boolean().optional(),
    ready: z.int(),
    starting: z.int(),
    error: z.string().optional(),
    created_at: z.iso.datetime(),
  })
  .meta({ id: "Pool" });
export type Pool = z.infer<typeof PoolSchema>;
