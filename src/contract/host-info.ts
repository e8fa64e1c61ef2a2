import { z } from "zod";
import { LabelsSchema, PortSchema, RegionSchema } from "./fields.ts";
import { GpuDeviceSchema } from "./gpu.ts";
import { idSchema } from "./ids.ts";

/** What a host can do; what it cannot do is refused at create, naming the field. */
export const CapabilitiesSchema = z.object({
  cpu_limit: z.boolean(),
  memory_limit: z.boolean(),
  gpu: z.boolean(),
  raw_tcp: z.boolean(),
  /** Whether a process can run as another user than the image's. */
  exec_user: z.boolean(),
  pty: z.boolean(),
  /** Whether a sandbox can be cut off from every network when it starts; absent where it cannot. */
  block_network: z.boolean().optional(),
  /**
   * Whether rules can be set for a sandbox's network, and changed while it runs: where it connects to, and who to its published ports;
   * absent where they cannot.
   */
  network_rules: z.boolean().optional(),
  /** Whether headers can be added to what a sandbox sends (`egress_headers`); absent where they cannot. */
  egress_headers: z.boolean().optional(),
  /** Whether containers can be started ahead of their sandboxes (`orders.warm`); absent where they cannot. */
  warm_pools: z.boolean().optional(),
  /** Whether sandboxes can mount volumes; absent where they cannot. */
  volumes: z.boolean().optional(),
  /** Cores and MiB that no sandbox can have more of; absent where nobody says. */
  max_cpu: z.number().optional(),
  max_memory: z.int().optional(),
  /** Where a sandbox can be asked to run; absent where there is no choice. */
  regions: z.array(z.string().max(64)).max(64).optional(),
  /** Ports that no tunnel can lead to. */
  reserved_ports: z.array(PortSchema).optional(),
  /** The only images it runs (besides snapshots); absent where any reference may be pulled. */
  images: z.array(z.string().max(512)).max(100).optional(),
});
export type Capabilities = z.infer<typeof CapabilitiesSchema>;

/** What a machine has for sandboxes, all of them together. */
export const CapacitySchema = z.object({
  /** Cores: no sandbox can have more. */
  cpu: z.number().positive(),
  /** How many times its cores the sandboxes may ask for together: most idle most of the time. */
  cpu_overcommit: z.number().min(1),
  /** MiB. */
  memory: z.int().min(1),
  /** MiB of the file system on which the sandboxes are. */
  disk: z.int().min(0),
  gpus: z.array(GpuDeviceSchema).max(64),
});
export type Capacity = z.infer<typeof CapacitySchema>;

export const HostInfoSchema = z.object({
  host_id: idSchema("host"),
  version: z.string().max(128),
  runtime: z.enum(["docker", "embedded"]),
  default_image: z.string().max(512),
  capabilities: CapabilitiesSchema,
  /** Left out by a host that does not know: it counts as boundless, without GPUs. */
  capacity: CapacitySchema.optional(),
  /** Where the machine is; also in `capabilities.regions`. */
  region: RegionSchema.optional(),
  /** What its operator says of it, for `host_labels` of a create. */
  labels: LabelsSchema.optional(),
});
export type HostInfo = z.infer<typeof HostInfoSchema>;
