import { NameCatalog, type SandboxName } from "../catalog/names.ts";
import { ApiError } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import type { Env } from "./env.ts";
import { describeIfThere } from "./sandbox-client.ts";

/** A name that its holder has not got by then is free: the request that claimed it died on the way. No change takes so long. */
const GRACE_MS = 60_000;

/** Takes the name for the sandbox before it gets it. Throws `name_taken`. */
export async function claimName(env: Env, name: SandboxName, sandboxId: string): Promise<void> {
  const names = new NameCatalog(env.DB);
  const claim = await names.claimName(name, sandboxId, Date.now());
  if (claim.kind === "claimed") return;
  const isFree = await isForsaken(env, name, claim.sandboxId, claim.claimedAt);
  if (isFree && (await names.takeOver(name, claim, sandboxId, Date.now()))) return;
  throw new ApiError("name_taken", { detail: `\`${name.name}\` is the name of ${claim.sandboxId}.` });
}

/** Gives back a name that the sandbox did not get. What cannot be given back now is free after a while. */
export async function releaseName(env: Env, name: SandboxName, sandboxId: string): Promise<void> {
  await new NameCatalog(env.DB).release(name, sandboxId).catch((error: unknown) => {
    console.error(`The name ${name.name} could not be given back.`, error);
  });
}

/** Asks the object itself: the catalog may lag behind it. */
async function isForsaken(env: Env, name: SandboxName, sandboxId: string, claimedAt: number): Promise<boolean> {
  const holder = await describeIfThere(env, name.environment, sandboxId);
  if (holder && !isLive(holder.state)) return true;
  return holder?.name !== name.name && Date.now() - claimedAt > GRACE_MS;
}
