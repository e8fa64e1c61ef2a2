import { z } from "zod";
import { idSchema } from "./ids.ts";
import { BACKENDS } from "./sandbox.ts";

/** `snapshot`: made of a sandbox. `deployed`: brought by the deployment, for sandboxes on Cloudflare Containers. */
export const IMAGE_KINDS = ["snapshot", "deployed"] as const;

/** A snapshot. It starts only on the backend that it was made on. */
export const ImageSchema = z
  .object({
    image_id: idSchema("image"),
    kind: z.literal("snapshot"),
    backend: z.enum(BACKENDS),
    sandbox_id: idSchema("sandbox"),
    name: z.string().optional(),
    size: z.int(),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
  })
  .meta({ id: "Image" });
export type Image = z.infer<typeof ImageSchema>;

/** An image that the deployment brings: `image` of a create takes its name. */
export const DeployedImageSchema = z
  .object({ kind: z.literal("deployed"), backend: z.enum(BACKENDS), name: z.string() })
  .meta({ id: "DeployedImage" });
export type DeployedImage = z.infer<typeof DeployedImageSchema>;

/** Seconds a snapshot is kept. */
export const SNAPSHOT_TTL_S = 30 * 86_400;
