import { HTTPException } from "hono/http-exception";
import { ApiError, asApiError, ERRORS } from "../contract/errors.ts";
import { toProblem } from "../contract/problem.ts";
import { platformFailure } from "../rpc/platform-failure.ts";

/** `Retry-After` of 429 and 503 when the error itself names none. */
const DEFAULT_RETRY_AFTER_S = 2;

/** Any error as the answer to a client: the one place that formats errors. */
export function problemResponse(error: unknown, requestId: string): Response {
  const known = classify(error);
  if (known.code === "internal") console.error(`Request ${requestId} failed.`, error);
  const { status } = ERRORS[known.code];
  const headers = new Headers({ "content-type": "application/problem+json", "x-request-id": requestId });
  if (status === 401) headers.set("www-authenticate", 'Bearer realm="sandbar"');
  if (status === 429 || status === 503 || known.retryAfter !== undefined) {
    headers.set("retry-after", String(Math.max(1, Math.ceil(known.retryAfter ?? DEFAULT_RETRY_AFTER_S))));
  }
  if (known.code === "range_not_satisfiable" && known.extra?.["size"] !== undefined) {
    headers.set("content-range", `bytes */${known.extra["size"]}`);
  }
  if (typeof known.extra?.["allow"] === "string") headers.set("allow", known.extra["allow"]);
  return new Response(JSON.stringify({ ...toProblem(known), request_id: requestId }), { status, headers });
}

function classify(error: unknown): ApiError {
  return asApiError(error) ?? fromHttpException(error) ?? fromPlatform(error) ?? new ApiError("internal");
}

/** What Hono and its validators throw. */
function fromHttpException(error: unknown): ApiError | undefined {
  if (!(error instanceof HTTPException)) return undefined;
  if (error.status === 413) return new ApiError("payload_too_large");
  if (error.status === 415) return new ApiError("unsupported_media_type");
  return error.status === 400 ? new ApiError("invalid_request", { detail: `${error.message}.` }) : undefined;
}

/** What the catalog and the objects throw where they cannot answer. */
function fromPlatform(error: unknown): ApiError | undefined {
  switch (platformFailure(error)) {
    case "catalog":
      console.error("The catalog does not answer.", error);
      return new ApiError("catalog_unavailable", {
        detail: "Try again; nothing is lost.",
        retryAfter: 1,
        cause: error,
      });
    case "overloaded":
      return new ApiError("rate_limited", { detail: "The sandbox gets too many requests.", cause: error });
    case "moved":
      return new ApiError("backend_unavailable", { detail: "The sandbox is being moved.", cause: error });
    case undefined:
      return undefined;
  }
}
