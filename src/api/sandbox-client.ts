import { ApiError } from "../contract/errors.ts";
import { idSchema } from "../contract/ids.ts";
import type { SandboxRpc } from "../sandbox/rpc.ts";
import type { Env } from "./env.ts";

const SandboxIdSchema = idSchema("sandbox");

/** The object of a sandbox. An id that cannot be one makes no object: there is no such sandbox. */
export function openSandbox(env: Env, sandboxId: string): SandboxRpc & { fetch(request: Request): Promise<Response> } {
  if (!SandboxIdSchema.safeParse(sandboxId).success) throw new ApiError("sandbox_not_found");
  // RPC's own types wrap every result in what only matters for classes that cross it; ours are plain data.
  return env.SANDBOXES.get(env.SANDBOXES.idFromName(sandboxId)) as unknown as SandboxRpc & {
    fetch(request: Request): Promise<Response>;
  };
}
