import { z } from "zod";
import { NameSchema } from "./fields.ts";
import { idSchema } from "./ids.ts";
import { TtlSchema } from "./image.ts";
import { IdempotencyHeadersSchema } from "./list.ts";
import { SandboxSchema } from "./sandbox.ts";

export const SnapshotRequestSchema = z.strictObject({
  name: NameSchema.optional(),
  ttl: TtlSchema.optional().meta({ description: "Seconds until it is deleted; 30 days if left out, null for never." }),
});

const MAX_FORKS = 100;

export const ForkRequestSchema = z
  .strictObject({
    count: z.int().min(1).max(MAX_FORKS).default(1),
    ttl: TtlSchema.optional().meta({
      description: "Seconds until the image is deleted; a day if left out, null for never.",
    }),
  })
  .meta({ id: "ForkRequest" });
export type ForkRequest = z.infer<typeof ForkRequestSchema>;

/** The image that the forks share, and the forks. */
export const ForkSchema = z.object({ image_id: idSchema("image"), data: z.array(SandboxSchema) }).meta({ id: "Fork" });
export type Fork = z.infer<typeof ForkSchema>;

/** What a snapshot may be asked for with. `Prefer: respond-async` (RFC 7240) is answered at once; other preferences have no effect. */
export const SnapshotHeadersSchema = IdempotencyHeadersSchema.extend({
  Prefer: z.string().max(1024).optional().meta({ description: "`respond-async` for an answer before it is made." }),
});

export const prefersAsync = (prefer: string | undefined): boolean =>
  prefer?.split(",").some((one) => one.trim().toLowerCase() === "respond-async") ?? false;
