import { bodyLimit } from "hono/body-limit";
import { createMiddleware } from "hono/factory";
import { ApiError } from "../contract/errors.ts";
import { MAX_JSON_BYTES, refuseProtoKeys } from "../contract/json.ts";
import type { ApiEnv } from "./env.ts";

const JSON_TYPE = /^application\/json(\s*;\s*charset="?utf-8"?)?\s*$/i;

const limit = bodyLimit({
  maxSize: MAX_JSON_BYTES,
  onError: () => {
    throw new ApiError("payload_too_large", { detail: `A JSON body is at most ${MAX_JSON_BYTES} bytes long.` });
  },
});

/**
 * Guards operations that take JSON: size and content type. Bodies of any other operation pass untouched,
 * so that files stream.
 */
export const checkJsonBody = createMiddleware<ApiEnv>(async function checkJsonBody(c, next) {
  const { jsonBody } = c.get("route");
  if (jsonBody === "none") return next();
  const type = c.req.header("content-type");
  const isEmpty = c.req.raw.body === null || c.req.header("content-length") === "0";
  if (isEmpty && jsonBody === "optional") {
    c.req.raw = withoutBody(c.req.raw);
    return next();
  }
  if (type === undefined && isEmpty)
    throw new ApiError("invalid_request", { detail: "The request needs a JSON body." });
  if (type === undefined || !JSON_TYPE.test(type)) {
    throw new ApiError("unsupported_media_type", { detail: "The body must be application/json." });
  }
  return limit(c, async () => {
    refuseProtoKeys(await c.req.text());
    await next();
  });
});

/** Clients send a content type with no body behind it: that is no body. */
function withoutBody(request: Request): Request {
  const headers = new Headers(request.headers);
  headers.delete("content-type");
  return new Request(request.url, { method: request.method, headers, signal: request.signal });
}
