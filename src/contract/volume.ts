import { z } from "zod";
import { NameSchema } from "./fields.ts";
import { idSchema, isId } from "./ids.ts";

/** What a create of a sandbox names by id or by name. */
const VolumeNameSchema = NameSchema.refine((name) => !isId("volume", name), "must not look like the id of a volume");

export const VolumeCreateSchema = z
  .strictObject({ name: VolumeNameSchema.meta({ description: "Unique in the environment." }) })
  .meta({ id: "VolumeCreate" });

/** A volume as the API shows it. `version` counts its commits. */
export const VolumeSchema = z
  .object({
    volume_id: idSchema("volume"),
    name: z.string(),
    created_at: z.iso.datetime(),
  })
  .meta({ id: "Volume" });
export type Volume = z.infer<typeof VolumeSchema>;

/** One volume asked for by itself: also what is in it. */
export const VolumeDetailSchema = VolumeSchema.extend({
  version: z.int().min(0).meta({ description: "Counts the commits." }),
  committed_at: z.iso.datetime().optional(),
  files: z.int().min(0),
  size: z.int().min(0).meta({ description: "Bytes of its files." }),
  stored_size: z.int().min(0).meta({ description: "Bytes that are stored for it." }),
}).meta({ id: "VolumeDetail" });
export type VolumeDetail = z.infer<typeof VolumeDetailSchema>;
