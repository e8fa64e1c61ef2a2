import { ApiError } from "../contract/errors.ts";
import { fromProblem } from "../contract/problem.ts";
import { withCall, type SandboxCall } from "../sandbox/call.ts";
import type { Env } from "./env.ts";
import { fetchFromSandbox } from "./sandbox-client.ts";
import { isUpgrade } from "./socket-protocols.ts";

/** Refuses a request that does not ask to become a WebSocket. */
export function requireUpgrade(request: Request): void {
  if (isUpgrade(request)) return;
  throw new ApiError("invalid_request", {
    detail: "This is a WebSocket endpoint: the request must carry `Upgrade: websocket`.",
  });
}

/**
 * Has the sandbox's object take the socket, and answers with its other end. Of the client's request nothing goes along: the
 * call says all. Throws what the object answers instead of a socket.
 */
export async function openSocket(
  env: Env,
  sandboxId: string,
  call: SandboxCall,
  protocol: string | undefined,
): Promise<Response> {
  const headers = withCall(new Headers({ upgrade: "websocket" }), call);
  const answer = await fetchFromSandbox(env, sandboxId, new Request("http://sandbox/", { headers }));
  const { webSocket } = answer;
  if (!webSocket) throw fromProblem(await answer.json().catch(() => undefined)) ?? new ApiError("internal");
  return new Response(null, {
    status: 101,
    webSocket,
    ...(protocol !== undefined && { headers: { "sec-websocket-protocol": protocol } }),
  });
}
