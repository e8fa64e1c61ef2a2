import { ApiError } from "../contract/errors.ts";
import { EnvSchema } from "../contract/fields.ts";
import type { StartSpec } from "../contract/host-protocol.ts";
import type { SecretVault } from "../secrets/vault.ts";
import type { SandboxRecord } from "./store.ts";

/**
 * The variables of the sandbox's secrets, later ones over earlier, and its own over all of them. They are read for each start and
 * kept nowhere. Throws where it can never have them.
 */
export async function startEnv(
  { environment, create: { env: own = {}, secrets = [] } }: SandboxRecord,
  vault: Pick<SecretVault, "open">,
): Promise<StartSpec["env"]> {
  if (secrets.length === 0) return own;
  const env = Object.assign({}, ...(await vault.open(environment, secrets)), own) as StartSpec["env"];
  const { error } = EnvSchema.safeParse(env);
  if (!error) return env;
  const why = error.issues[0]?.message;
  throw new ApiError("invalid_request", { detail: `The variables of the sandbox and of its secrets ${why}.` });
}
