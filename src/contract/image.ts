import { z } from "zod";
import { idSchema } from "./ids.ts";
import { BACKENDS } from "./sandbox.ts";

/** `snapshot`: made of a sandbox. `pushed`: into the registry. `deployed`: brought by the deployment, for Cloudflare Containers. */
export const IMAGE_KINDS = ["snapshot", "pushed", "deployed"] as const;

/** `pending` while it is made and stored; `failed` for good, and `error` says why. Only a `ready` one can be started. */
export const IMAGE_STATUSES = ["pending", "ready", "failed"] as const;
export type ImageStatus = (typeof IMAGE_STATUSES)[number];

/** What hosts run sandboxes with. */
export const RUNTIMES = ["docker", "embedded"] as const;

/** A snapshot. It starts only on the backend that it was made on, and of hosts on those of its runtime. */
export const ImageSchema = z
  .object({
    image_id: idSchema("image"),
    kind: z.literal("snapshot"),
    status: z.enum(IMAGE_STATUSES),
    error: z.string().optional(),
    backend: z.enum(BACKENDS),
    runtime: z.enum(RUNTIMES).optional(),
    sandbox_id: idSchema("sandbox"),
    parent: z.string().optional().meta({ description: "The image that the sandbox was started from." }),
    name: z.string().optional(),
    reference: z.string().optional().meta({ description: "In the registry, behind the API's host name." }),
    digest: z.string().optional(),
    size: z.int().optional().meta({ description: "Bytes of all layers, compressed as they are stored." }),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime().optional(),
  })
  .meta({ id: "Image" });
export type Image = z.infer<typeof ImageSchema>;

/** An image that was pushed into the registry: `image` of a create takes its reference. */
export const PushedImageSchema = z
  .object({
    kind: z.literal("pushed"),
    backend: z.literal("docker"),
    reference: z.string(),
    digest: z.string(),
    size: z.int(),
    created_at: z.iso.datetime(),
  })
  .meta({ id: "PushedImage" });
export type PushedImage = z.infer<typeof PushedImageSchema>;

/** An image that the deployment brings: `image` of a create takes its name. */
export const DeployedImageSchema = z
  .object({ kind: z.literal("deployed"), backend: z.enum(BACKENDS), name: z.string() })
  .meta({ id: "DeployedImage" });
export type DeployedImage = z.infer<typeof DeployedImageSchema>;

const DAY_S = 86_400;
/** Seconds a snapshot is kept that says nothing of it. */
export const SNAPSHOT_TTL_S = 30 * DAY_S;
/** Seconds the image of a fork is kept that says nothing of it. */
export const FORK_TTL_S = DAY_S;
/** Seconds a snapshot that failed can be read of. */
export const FAILED_TTL_S = DAY_S;
const MIN_TTL_S = 60;
const MAX_TTL_S = 3650 * DAY_S;

/** Seconds until an image is deleted; null for never. */
export const TtlSchema = z.int().min(MIN_TTL_S).max(MAX_TTL_S).nullable();
