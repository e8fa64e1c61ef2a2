import { z } from "zod";
import { idSchema } from "./ids.ts";
import { BACKENDS, FINISH_REASONS, SANDBOX_STATES } from "./sandbox.ts";

/** What happened: the state that the sandbox has come to, or that it was changed by a client. */
export const SANDBOX_EVENT_TYPES = [...SANDBOX_STATES, "updated"] as const;

/**
 * The event stream of a sandbox. `id` is a number that counts its events; sent back as `Last-Event-ID` the stream goes on
 * behind it. `finished` or `terminated` is the last event, and there is one.
 */
export const SandboxEventSchema = z
  .object({
    type: z.enum(SANDBOX_EVENT_TYPES),
    at: z.iso.datetime(),
    /** Of `scheduled`: where the sandbox is being started, and which attempt that is. */
    backend: z.enum(BACKENDS).optional(),
    host_id: idSchema("host").optional(),
    generation: z.int().optional(),
    /** Of `updated`: the fields that were given, and the times as they are now, in seconds. */
    fields: z.array(z.string()).optional(),
    timeout: z.int().optional(),
    idle_timeout: z.int().optional(),
    /** Of the end: as the sandbox shows them. */
    finish_reason: z.enum(FINISH_REASONS).optional(),
    returncode: z.int().optional(),
    error: z.string().optional(),
  })
  .meta({ id: "SandboxEvent" });
export type SandboxEvent = z.infer<typeof SandboxEventSchema>;
