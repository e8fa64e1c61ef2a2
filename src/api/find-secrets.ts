import { SecretCatalog } from "../catalog/secrets.ts";
import { ApiError } from "../contract/errors.ts";
import { SecretVault } from "../secrets/vault.ts";
import type { Env } from "./env.ts";

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
  if (missing[0]) {
    const { path, message } = missing[0];
    throw new ApiError("secret_not_found", { detail: `${path}: ${message}.`, errors: missing });
  }
  const secrets = ids.filter((id) => id !== undefined);
  const again = secrets.findIndex((id, at) => secrets.indexOf(id) < at);
  if (again >= 0) {
    const errors = [{ path: `secrets.${again}`, message: "must not name a secret twice" }];
    throw new ApiError("invalid_request", { detail: `secrets.${again}: must not name a secret twice.`, errors });
  }
  await new SecretVault(env).requireReadable(found);
  return { ...create, secrets };
}
