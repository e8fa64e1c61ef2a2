import { SecretCatalog } from "../catalog/secrets.ts";
import { SecretVault } from "../secrets/vault.ts";
import type { Env } from "./env.ts";
import { fieldsRefused } from "./refused-fields.ts";

/**
 * The create with the ids of the secrets that it names. Throws `secret_not_found` naming those that are not there,
 * `invalid_request` where one is named twice, and `secrets_unavailable` where one could not be read.
 */
export async function withSecretIds<Create extends { secrets?: string[] | undefined }>(
  env: Env,
  environment: string,
  create: Create,
): Promise<Create> {
  const { secrets: references = [] } = create;
  if (references.length === 0) return create;
  const found = await new SecretCatalog(env.DB).named(environment, references);
  const ids = references.map((one) => found.find(({ secretId, name }) => secretId === one || name === one)?.secretId);
  const missing = references.flatMap((one, at) =>
    ids[at] === undefined ? [{ path: `secrets.${at}`, message: `there is no secret ${one}` }] : [],
  );
  if (missing.length > 0) throw fieldsRefused("secret_not_found", missing);
  const secrets = ids.filter((id) => id !== undefined);
  const again = secrets.findIndex((id, at) => secrets.indexOf(id) < at);
  if (again >= 0)
    throw fieldsRefused("invalid_request", [{ path: `secrets.${again}`, message: "must not name a secret twice" }]);
  await new SecretVault(env).requireReadable(found);
  return { ...create, secrets };
}
