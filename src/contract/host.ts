import { z } from "zod";
import { CapabilitiesSchema } from "./host-protocol.ts";
import { idSchema } from "./ids.ts";

/** A host that has not reported for this long takes no new sandboxes. */
export const HOST_ALIVE_MS = 15_000;

export const HostCreateSchema = z.strictObject({ name: z.string().min(1).max(128) }).meta({ id: "HostCreate" });
export type HostCreate = z.infer<typeof HostCreateSchema>;

/** `waiting`: has never reported. `alive`: reports. `lost`: has reported, and does not any more. */
export const HOST_STATES = ["waiting", "alive", "lost"] as const;

export const HostSchema = z
  .object({
    host_id: idSchema("host"),
    name: z.string(),
    state: z.enum(HOST_STATES),
    url: z.string().optional(),
    runtime: z.enum(["docker", "embedded"]).optional(),
    version: z.string().optional(),
    default_image: z.string().optional(),
    capabilities: CapabilitiesSchema.optional(),
    created_at: z.iso.datetime(),
    last_seen_at: z.iso.datetime().optional(),
  })
  .meta({ id: "Host" });
export type Host = z.infer<typeof HostSchema>;

/** The answer to a create: `token` is what the new host joins with, shown once. */
export const NewHostSchema = z.object({ host_id: idSchema("host"), token: z.string() }).meta({ id: "NewHost" });
export type NewHost = z.infer<typeof NewHostSchema>;
