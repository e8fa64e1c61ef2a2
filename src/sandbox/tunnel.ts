import type { Backend } from "../backends/backend.ts";
import { ApiError, ERRORS } from "../contract/errors.ts";
import { toProblem } from "../contract/problem.ts";
import { isLive } from "../contract/sandbox.ts";
import { withoutCall } from "./call.ts";
import { endedError } from "./lifecycle.ts";
import type { SandboxRecord } from "./store.ts";

/** Hands a request on to the declared port that the Worker read from the host name. */
export async function forwardToPort(
  record: SandboxRecord,
  port: number,
  request: Request,
  running: () => Promise<Backend>,
): Promise<Response> {
  if (!record.create.encrypted_ports?.includes(port)) {
    throw new ApiError("not_found", {
      detail: `The sandbox has no tunnel to port ${port}: it is not in encrypted_ports.`,
    });
  }
  if (!isLive(record.state)) throw endedError(record);
  const backend = await running();
  return backend.connect(port, new Request(request, { headers: withoutCall(request.headers) }));
}

/** An error as the answer to who called the port. */
export function problemAnswer(error: ApiError): Response {
  const headers = new Headers({ "content-type": "application/problem+json" });
  if (error.retryAfter !== undefined) headers.set("retry-after", String(Math.ceil(error.retryAfter)));
  return new Response(JSON.stringify(toProblem(error)), { status: ERRORS[error.code].status, headers });
}
