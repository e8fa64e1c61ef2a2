import { createMiddleware } from "hono/factory";
import { CONTROL_PLANE_AUDIENCE, deriveHostKey, verifyRequest } from "../contract/host-token.ts";
import type { ApiEnv } from "./env.ts";

/** Takes only requests that the host of the path has signed. It stands in for an API key. */
export const requireHostSignature = createMiddleware<ApiEnv>(async function requireHostSignature(c, next) {
  const url = new URL(c.req.url);
  const hostId = c.req.param("host_id") ?? "";
  await verifyRequest(await deriveHostKey(c.env.SIGNING_SECRET, hostId), CONTROL_PLANE_AUDIENCE, {
    authorization: c.req.header("authorization"),
    method: c.req.method,
    target: url.pathname + url.search,
  });
  await next();
});
