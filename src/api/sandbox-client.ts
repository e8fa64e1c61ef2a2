import { ApiError, hasCode } from "../contract/errors.ts";
import { idSchema } from "../contract/ids.ts";
import type { Sandbox } from "../contract/sandbox.ts";
import { unwrapReplies, type Replies } from "../rpc/api-reply.ts";
import type { SandboxRpc } from "../sandbox/rpc.ts";
import type { Env } from "./env.ts";
import { repeated } from "../rpc/repeated.ts";

const SandboxIdSchema = idSchema("sandbox");

/** What may be asked again of an object that was lost while it was asked, as by a deploy: the second time changes nothing. */
const REPEATABLE: ReadonlySet<keyof SandboxRpc> = new Set([
  "create",
  "describe",
  "update",
  "wait",
  "eventsAfter",
  "terminate",
  "getProcess",
  "listProcesses",
  "commitVolumes",
  "reloadVolumes",
  "stat",
  "listFiles",
  "watchFiles",
  "readArchive",
  "uploadTarget",
  "tunnels",
  "connectToken",
]);

/**
 * The object of a sandbox. Its methods throw the errors that it replies. `region` says where an object is to be that is not
 * there yet: one of the platform's location hints.
 */
export function openSandbox(env: Env, sandboxId: string, region?: string): SandboxRpc {
  requireSandboxId(sandboxId);
  // RPC's own types wrap every result in what only matters for classes that cross it; ours are plain data.
  const open = () => unwrapReplies<SandboxRpc>(stubOf(env, sandboxId, region) as unknown as Replies<SandboxRpc>);
  return repeated(open, REPEATABLE);
}

/** The sandbox as its object shows it; undefined where there is none. */
export async function describeIfThere(env: Env, environment: string, sandboxId: string): Promise<Sandbox | undefined> {
  try {
    return await openSandbox(env, sandboxId).describe({ environment });
  } catch (error) {
    if (hasCode(error, "sandbox_not_found")) return undefined;
    throw error;
  }
}

/** Hands a request for one of its ports to the sandbox. */
export function fetchFromSandbox(env: Env, sandboxId: string, request: Request): Promise<Response> {
  requireSandboxId(sandboxId);
  return stubOf(env, sandboxId).fetch(request);
}

/** An id that cannot be one makes no object: there is no such sandbox. */
function requireSandboxId(sandboxId: string): void {
  if (!SandboxIdSchema.safeParse(sandboxId).success) throw new ApiError("sandbox_not_found");
}

function stubOf(env: Env, sandboxId: string, region?: string) {
  const id = env.SANDBOXES.idFromName(sandboxId);
  return env.SANDBOXES.get(id, region === undefined ? {} : { locationHint: region as DurableObjectLocationHint });
}
