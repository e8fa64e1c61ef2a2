import { z } from "zod";
import { EnvironmentSchema } from "./fields.ts";
import { idSchema } from "./ids.ts";

/** What a key may do. Each holds what stands before it. */
export const SCOPES = ["read", "write", "admin"] as const;
export type ScopeName = (typeof SCOPES)[number];

/** The environment of a deployment that names no other. */
export const DEFAULT_ENVIRONMENT = "main";

const LabelSchema = z.string().min(1).max(128);

export const KeyCreateSchema = z
  .strictObject({
    name: LabelSchema,
    environment: EnvironmentSchema.optional().meta({ description: "The caller's own if left out." }),
    scopes: z.array(z.enum(SCOPES)).min(1).max(SCOPES.length),
  })
  .meta({ id: "KeyCreate" });
export type KeyCreate = z.infer<typeof KeyCreateSchema>;

export const KeySchema = z
  .object({
    key_id: idSchema("key"),
    name: z.string(),
    environment: z.string(),
    scopes: z.array(z.enum(SCOPES)),
    created_at: z.iso.datetime(),
  })
  .meta({ id: "Key" });
export type Key = z.infer<typeof KeySchema>;

/** The answer to a create: the only time that `key` itself is shown. */
export const NewKeySchema = KeySchema.extend({ key: z.string() }).meta({ id: "NewKey" });
export type NewKey = z.infer<typeof NewKeySchema>;
