import { ApiError, asApiError } from "../contract/errors.ts";
import type { Sandbox, SandboxPatch } from "../contract/sandbox.ts";
import type { Env } from "./env.ts";
import { claimName, releaseName } from "./name-claim.ts";
import { openSandbox } from "./sandbox-client.ts";

/** Changes the sandbox: all that the patch names, or nothing. */
export async function updateSandbox(
  env: Env,
  environment: string,
  sandboxId: string,
  patch: SandboxPatch,
): Promise<Sandbox> {
  const sandbox = openSandbox(env, sandboxId);
  const wanted = patch.name;
  if (wanted === undefined) return sandbox.update({ environment }, patch);
  const { app_id: appId, name: before } = await sandbox.describe({ environment });
  // The object refuses a second name; one that it has already needs no claim.
  if (before !== undefined) return sandbox.update({ environment }, patch);
  const name = { environment, appId, name: wanted };
  await claimName(env, name, sandboxId);
  try {
    return await sandbox.update({ environment }, patch);
  } catch (error) {
    // Without an answer of its own the object may have the name all the same.
    if (asApiError(error) && !(await hasName(env, environment, sandboxId, wanted)))
      await releaseName(env, name, sandboxId);
    throw error;
  }
}

async function hasName(env: Env, environment: string, sandboxId: string, name: string): Promise<boolean> {
  try {
    return (await openSandbox(env, sandboxId).describe({ environment })).name === name;
  } catch (error) {
    return !(error instanceof ApiError);
  }
}
