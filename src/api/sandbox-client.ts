import { ApiError } from "../contract/errors.ts";
import { idSchema } from "../contract/ids.ts";
import { unwrapReplies, type Replies } from "../sandbox/reply.ts";
import type { SandboxRpc } from "../sandbox/rpc.ts";
import type { Env } from "./env.ts";

const SandboxIdSchema = idSchema("sandbox");

/**
 * The object of a sandbox. Its methods throw the errors that it replies. `region` says where an object is to be that is not
 * there yet: one of the platform's location hints.
 */
export function openSandbox(env: Env, sandboxId: string, region?: string): SandboxRpc {
  // RPC's own types wrap every result in what only matters for classes that cross it; ours are plain data.
  return unwrapReplies<SandboxRpc>(stubOf(env, sandboxId, region) as unknown as Replies<SandboxRpc>);
}

/** Hands a request for one of its ports to the sandbox. */
export function fetchFromSandbox(env: Env, sandboxId: string, request: Request): Promise<Response> {
  return stubOf(env, sandboxId).fetch(request);
}

/** An id that cannot be one makes no object: there is no such sandbox. */
function stubOf(env: Env, sandboxId: string, region?: string) {
  if (!SandboxIdSchema.safeParse(sandboxId).success) throw new ApiError("sandbox_not_found");
  const id = env.SANDBOXES.idFromName(sandboxId);
  return env.SANDBOXES.get(id, region === undefined ? {} : { locationHint: region as DurableObjectLocationHint });
}
