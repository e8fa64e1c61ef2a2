import { SecretCatalog } from "../catalog/secrets.ts";
import type { FieldError } from "../contract/errors.ts";
import type { EgressHeader } from "../contract/network.ts";
import { SecretVault } from "../secrets/vault.ts";
import type { Env } from "./env.ts";
import { fieldsRefused } from "./refused-fields.ts";

interface SecretFields {
  secrets?: string[] | undefined;
  egress_headers?: EgressHeader[] | undefined;
}

/**
 * The create with the ids of the secrets that it names. Throws `secret_not_found` naming those that are not there,
 * `invalid_request` where one is named twice or has no such value, and `secrets_unavailable` where one could not be read.
 */
export async function withSecretIds<Create extends SecretFields>(
  env: Env,
  environment: string,
  create: Create,
): Promise<Create> {
  const { secrets: references = [], egress_headers: headers = [] } = create;
  const all = [...references, ...headers.map(({ secret }) => secret)];
  if (all.length === 0) return create;
  const found = await new SecretCatalog(env.DB).named(environment, [...new Set(all)]);
  const secretOf = (one: string) => found.find(({ secretId, name }) => secretId === one || name === one);
  const missing = [
    ...references.map((one, at) => ({ path: `secrets.${at}`, one })),
    ...headers.map(({ secret }, at) => ({ path: `egress_headers.${at}.secret`, one: secret })),
  ]
    .filter(({ one }) => !secretOf(one))
    .map(({ path, one }) => ({ path, message: `there is no secret ${one}` }));
  if (missing.length > 0) throw fieldsRefused("secret_not_found", missing);
  const secrets = references.map((one) => secretOf(one)!.secretId);
  const again = secrets.findIndex((id, at) => secrets.indexOf(id) < at);
  if (again >= 0)
    throw fieldsRefused("invalid_request", [{ path: `secrets.${again}`, message: "must not name a secret twice" }]);
  const keyless = headers.flatMap(({ secret, key }, at) =>
    keyError(secretOf(secret)!, key, `egress_headers.${at}.key`),
  );
  if (keyless.length > 0) throw fieldsRefused("invalid_request", keyless);
  await new SecretVault(env).requireReadable(found);
  return {
    ...create,
    ...(create.secrets && { secrets }),
    ...(create.egress_headers && {
      egress_headers: headers.map((header) => Object.assign({}, header, { secret: secretOf(header.secret)!.secretId })),
    }),
  };
}

function keyError({ keys }: { keys: string[] }, key: string | undefined, path: string): FieldError[] {
  if (key !== undefined) return keys.includes(key) ? [] : [{ path, message: `the secret has no value ${key}` }];
  return keys.length === 1 ? [] : [{ path, message: `must name one of the secret's ${keys.length} values` }];
}
