import { z } from "zod";
import { idSchema } from "./ids.ts";

export const ImageSchema = z
  .object({
    image_id: idSchema("image"),
    sandbox_id: idSchema("sandbox"),
    name: z.string().optional(),
    size: z.int(),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
  })
  .meta({ id: "Image" });
export type Image = z.infer<typeof ImageSchema>;
/** Seconds a snapshot is kept. */
export const SNAPSHOT_TTL_S = 30 * 86_400;
