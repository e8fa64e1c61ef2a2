import { z } from "zod";
import { LabelsSchema, RegionSchema } from "./fields.ts";
import { CapabilitiesSchema, CapacitySchema } from "./host-info.ts";
import { idSchema } from "./ids.ts";

/** A host that has not reported for this long takes no new sandboxes. */
export const HOST_ALIVE_MS = 15_000;

export const HostCreateSchema = z.strictObject({ name: z.string().min(1).max(128) }).meta({ id: "HostCreate" });
export type HostCreate = z.infer<typeof HostCreateSchema>;

/** A change of a host. What is left out stays as it is. */
export const HostPatchSchema = z
  .strictObject({
    name: HostCreateSchema.shape.name.optional(),
    draining: z.boolean().optional().meta({ description: "Takes no new sandboxes; those that it has go on." }),
  })
  .meta({ id: "HostPatch" });
export type HostPatch = z.infer<typeof HostPatchSchema>;

/** `revoke`: the key that the host has is refused at once, as one that has leaked must be; the host is to be joined anew. */
export const HostKeyRotationSchema = z
  .strictObject({
    revoke: z
      .boolean()
      .optional()
      .meta({ description: "Refuse the old key at once. The host must be joined anew with the token of the answer." }),
  })
  .meta({ id: "HostKeyRotation" });
export type HostKeyRotation = z.infer<typeof HostKeyRotationSchema>;

/**
 * `waiting`: has never reported. `alive`: reports. `suspect`: has not for some seconds, and takes no new sandboxes. `lost`: for so long
 * that its sandboxes count as lost.
 */
export const HOST_STATES = ["waiting", "alive", "suspect", "lost"] as const;
export type HostState = (typeof HOST_STATES)[number];

/** What of a host's capacity is promised: `gpus` counts devices, `warm` the containers of pools, which give way. */
export const HostUseSchema = z.object({
  sandboxes: z.int(),
  warm: z.int(),
  cpu: z.number(),
  memory: z.int(),
  gpus: z.int(),
});
export type HostUse = z.infer<typeof HostUseSchema>;

export const HostSchema = z
  .object({
    host_id: idSchema("host"),
    name: z.string(),
    state: z.enum(HOST_STATES),
    draining: z.boolean(),
    url: z.string().optional(),
    runtime: z.enum(["docker", "embedded"]).optional(),
    version: z.string().optional(),
    default_image: z.string().optional(),
    capabilities: CapabilitiesSchema.optional(),
    capacity: CapacitySchema.optional(),
    disk_free: z.int().optional().meta({ description: "MiB, as last reported." }),
    used: HostUseSchema.optional(),
    region: RegionSchema.optional(),
    labels: LabelsSchema.optional(),
    key_version: z.int().meta({ description: "Of the key by which the host last reported." }),
    next_key_version: z.int().optional().meta({ description: "Of the key that it is still to be handed." }),
    created_at: z.iso.datetime(),
    last_seen_at: z.iso.datetime().optional(),
  })
  .meta({ id: "Host" });
export type Host = z.infer<typeof HostSchema>;

/** The answer to a create: `token` is what the new host joins with, shown once. */
export const NewHostSchema = z.object({ host_id: idSchema("host"), token: z.string() }).meta({ id: "NewHost" });
export type NewHost = z.infer<typeof NewHostSchema>;

/** The answer to a rotation: done when `next_key_version` of the host is gone. `token` only of a revocation, shown once. */
export const NewHostKeySchema = z
  .object({ host_id: idSchema("host"), next_key_version: z.int(), token: z.string().optional() })
  .meta({ id: "NewHostKey" });
export type NewHostKey = z.infer<typeof NewHostKeySchema>;
