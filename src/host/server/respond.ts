import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import { ApiError, asApiError, ERRORS } from "../../contract/errors.ts";
import { PROBLEM_HEADER, REFUSED_HEADER } from "../../contract/host-answer.ts";
import { toProblem } from "../../contract/problem.ts";

export function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
}

export function sendNothing(response: ServerResponse): void {
  response.writeHead(204).end();
}

/** The error as a client may see it; what is none of ours is logged and becomes `internal`, or tells that this machine is full. */
export function toApiError(error: unknown): ApiError {
  const known = asApiError(error);
  if (known) return known;
  console.error("sandbar host:", error);
  if (isOutOfDescriptors(error)) {
    return new ApiError("backend_unavailable", { detail: "The host has too many files open.", retryAfter: 1 });
  }
  return new ApiError("internal");
}

function isOutOfDescriptors(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, cause } = error as NodeJS.ErrnoException;
  return code === "EMFILE" || code === "ENFILE" || isOutOfDescriptors(cause);
}

/** Head and body of a problem document. */
export function problemOf(error: ApiError): { status: number; headers: OutgoingHttpHeaders; body: string } {
  const body = JSON.stringify(toProblem(error));
  return {
    status: ERRORS[error.code].status,
    headers: {
      "content-type": "application/problem+json",
      "content-length": Buffer.byteLength(body),
      [PROBLEM_HEADER]: error.code,
      ...(error.code === "unauthenticated" && { [REFUSED_HEADER]: "signature" }),
      ...(error.retryAfter !== undefined && { "retry-after": String(error.retryAfter) }),
      ...(error.code === "range_not_satisfiable" &&
        error.extra?.["size"] !== undefined && { "content-range": `bytes */${error.extra["size"]}` }),
    },
    body,
  };
}

/** Answers with the error; an answer that has begun is cut, so that nobody takes it for whole. */
export function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (response.destroyed) return;
  const { status, headers, body } = problemOf(toApiError(error));
  // Who may not ask gets no second question on this connection.
  response.writeHead(status, status === 401 ? { ...headers, connection: "close" } : headers).end(body);
}

/** Sends the chunks at the pace of the client: the next one is asked for when the last has left. Ends early when the client leaves. */
export async function sendChunks(
  response: ServerResponse,
  next: () => Promise<Uint8Array | string | undefined>,
): Promise<void> {
  for (let chunk = await next(); chunk !== undefined; chunk = await next()) {
    if (response.destroyed) return;
    await written(response, typeof chunk === "string" ? Buffer.from(chunk) : chunk);
  }
  response.end();
}

/** Done when the machine has the bytes, and their memory may be used again; or when nobody waits for them any more. */
function written(response: ServerResponse, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("close", done);
      resolve();
    };
    response.on("close", done);
    response.write(chunk, done);
    if (response.destroyed) done();
  });
}
