import { z } from "zod";
import { GpuUuidSchema } from "./gpu.ts";
import { HostInfoSchema } from "./host-info.ts";
import { WarmSpecSchema, WarmStatusSchema } from "./host-protocol.ts";
import { idSchema } from "./ids.ts";

/** A host with more tells of some of them each time. */
export const MAX_REPORTED_IMAGES = 500;

/** What a host sends every few seconds, and at once when a container ends. */
export const HostReportSchema = z.strictObject({
  url: z.url(),
  info: HostInfoSchema,
  containers: z.array(
    z.object({
      sandbox_id: idSchema("sandbox"),
      generation: z.int(),
      running: z.boolean(),
      /** The devices that it holds, until nothing of it is left. */
      gpus: z.array(GpuUuidSchema).optional(),
    }),
  ),
  /** The warm containers that no sandbox has yet. */
  warm: z.array(WarmStatusSchema).optional(),
  /** The snapshots that are on this machine; now and then. */
  images: z.array(idSchema("image")).max(MAX_REPORTED_IMAGES).optional(),
  /** Other images that need not be pulled here, by reference: all of them, or as many as may be told; now and then. */
  references: z.array(z.string().max(512)).max(MAX_REPORTED_IMAGES).optional(),
  /** MiB that are free where the sandboxes are. */
  disk_free: z.int().min(0).optional(),
});
export type HostReport = z.infer<typeof HostReportSchema>;

/**
 * What the control plane answers: the containers that no sandbox claims, and the images that are no more, to be removed; all the
 * warm containers that are to be here, no others (left out: it stays as it is); and the key that the host has from now on.
 * A warm container that was given to a sandbox stays among them until it is reported no more: it would be removed before that asks for it.
 */
export const HostOrdersSchema = z.object({
  warm: z.array(WarmSpecSchema).optional(),
  key: z.object({ version: z.int().min(2), key: z.string() }).optional(),
  drop_images: z.array(idSchema("image")).optional(),
  reap: z.array(z.object({ sandbox_id: idSchema("sandbox"), generation: z.int() })),
});
export type HostOrders = z.infer<typeof HostOrdersSchema>;
