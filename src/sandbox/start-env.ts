import { ApiError, asApiError } from "../contract/errors.ts";
import { EnvSchema } from "../contract/fields.ts";
import type { StartSpec } from "../contract/host-protocol.ts";
import { platformFailure } from "../rpc/platform-failure.ts";
import type { SecretVault } from "../secrets/vault.ts";
import type { SandboxRecord } from "./store.ts";

/** The variables of a container, or why it will never have them, for the user. */
export type StartEnv = { kind: "env"; env: StartSpec["env"] } | { kind: "failed"; error: string };

/**
 * The variables of the sandbox's secrets, later ones over earlier, and its own over all of them. They are read for each start and
 * kept nowhere. `isPublished`: whether the catalog has the sandbox. Not before then are its secrets read, since not before then
 * does whoever deletes one see who uses it. Throws where the catalog does not answer.
 */
export async function startEnv(
  { environment, create: { env: own = {}, secrets = [] } }: SandboxRecord,
  vault: Pick<SecretVault, "open">,
  isPublished: () => Promise<boolean>,
): Promise<StartEnv> {
  if (secrets.length === 0) return { kind: "env", env: own };
  if (!(await isPublished())) throw catalogAway();
  try {
    const env = Object.assign({}, ...(await vault.open(environment, secrets)), own) as StartSpec["env"];
    const { error } = EnvSchema.safeParse(env);
    if (!error) return { kind: "env", env };
    const why = error.issues[0]?.message;
    return { kind: "failed", error: `The variables of the sandbox and of its secrets ${why}.` };
  } catch (error) {
    if (platformFailure(error) === "catalog") throw catalogAway(error);
    const known = asApiError(error);
    if (!known) throw error;
    return { kind: "failed", error: known.message };
  }
}

const catalogAway = (cause?: unknown) =>
  new ApiError("catalog_unavailable", {
    detail: "The sandbox's secrets cannot be read while the catalog does not answer.",
    cause,
  });
