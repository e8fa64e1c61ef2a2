import { z } from "zod";
import { NameSchema } from "./fields.ts";
import { idSchema, isId } from "./ids.ts";
import { SandboxEnvSchema } from "./sandbox-env.ts";

/** What a sandbox names by id or by name. */
const SecretNameSchema = NameSchema.refine((name) => !isId("secret", name), "must not look like the id of a secret");

export const SecretCreateSchema = z
  .strictObject({
    name: SecretNameSchema.meta({ description: "Unique in the environment." }),
    values: SandboxEnvSchema.meta({ description: "Variables by name. They are never shown." }),
  })
  .meta({ id: "SecretCreate" });
export type SecretCreate = z.infer<typeof SecretCreateSchema>;

export const SecretReplaceSchema = z
  .strictObject({ values: SandboxEnvSchema.meta({ description: "Takes the place of all of them." }) })
  .meta({ id: "SecretReplace" });

/** A secret as the API shows it: what its variables are called, never what they hold. */
export const SecretSchema = z
  .object({
    secret_id: idSchema("secret"),
    name: z.string(),
    keys: z.array(z.string()),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: "Secret" });
export type Secret = z.infer<typeof SecretSchema>;

/**
 * How far a change of the deployment's key has come. `rewrapped` and `failed` count those of this call; `keys` counts all secrets of
 * the deployment by the key that they are under. An old key can go once `keys` does not name it.
 */
export const SecretRewrapSchema = z
  .object({
    key: z.string().meta({ description: "The fingerprint of the present key." }),
    rewrapped: z.int(),
    failed: z.int(),
    keys: z.record(z.string(), z.int()),
  })
  .meta({ id: "SecretRewrap" });
export type SecretRewrap = z.infer<typeof SecretRewrapSchema>;
