import { CidrSet } from "../contract/cidr.ts";
import { ApiError, ERRORS } from "../contract/errors.ts";
import { PROBLEM_HEADER } from "../contract/host-answer.ts";
import { toProblem } from "../contract/problem.ts";
import { isLive } from "../contract/sandbox.ts";
import { withoutCall, type PortCall } from "./call.ts";
import { requireNews, type HostLink } from "./host-link.ts";
import { endedError } from "./lifecycle.ts";
import { onwardAnswer } from "./onward.ts";
import type { Operations } from "./operations.ts";
import type { SandboxRecord } from "./store.ts";
import type { TunnelTokens } from "./tunnel-tokens.ts";

/**
 * A request counts here as activity until it is answered, and for so long at most. By then its host has it, which counts it
 * for as long as something moves on it.
 */
const COUNTED_MS = 60_000;

export interface TunnelParts {
  operations: Operations;
  tokens: TunnelTokens;
  host: HostLink;
}

/** Hands a request on to the port that the Worker read from the host name. Who may not call it does nothing to the sandbox. */
export async function forwardToPort(
  { operations, tokens, host }: TunnelParts,
  call: PortCall,
  request: Request,
): Promise<Response> {
  const { port, client } = call;
  const record = operations.record();
  requireClient(record, client);
  if (!record.create.encrypted_ports?.includes(port)) {
    throw new ApiError("not_found", {
      detail: `The sandbox has no tunnel to port ${port}: it is not in encrypted_ports.`,
    });
  }
  const plain = new Request(request, { headers: withoutCall(request.headers) });
  const admitted = await tokens.admit(record, port, plain);
  if (admitted instanceof Response) return admitted;
  const connect = async () => {
    const { state } = operations.record();
    if (!isLive(state)) throw endedError(operations.record());
    if (call.failure) await requireNews(host, call.failure);
    const backend = await host.running();
    if (!call.isThrough) {
      const target = await backend.connectTarget?.(port, admitted, {
        client,
        bodyFollows: call.bodyFollows ?? false,
      });
      if (target) return onwardAnswer({ kind: "host", ...target });
      if (call.bodyFollows) return onwardAnswer({ kind: "object" });
    }
    return backend.connect(port, admitted, client);
  };
  return operations.run(undefined, connect, COUNTED_MS);
}

/** Refuses whoever is not on the sandbox's list; where there is one, also those of whom nothing is known. */
function requireClient({ create }: SandboxRecord, client: string | undefined): void {
  const allowed = create.inbound_cidr_allowlist;
  if (!allowed || (client !== undefined && new CidrSet(allowed).has(client))) return;
  throw new ApiError("forbidden", {
    detail: `The sandbox is not reached from ${client ?? "an unknown address"}: see its inbound_cidr_allowlist.`,
  });
}

/** An error as the answer to who called the port, for the Worker to put into words. */
export function problemAnswer(error: ApiError): Response {
  const headers = new Headers({ "content-type": "application/problem+json", [PROBLEM_HEADER]: error.code });
  if (error.retryAfter !== undefined) headers.set("retry-after", String(Math.ceil(error.retryAfter)));
  return new Response(JSON.stringify(toProblem(error)), { status: ERRORS[error.code].status, headers });
}
