import { createMiddleware } from "hono/factory";
import type { ApiEnv } from "./env.ts";

/** Gives every request an id, shown in `x-request-id` and in problems: what a bug report quotes. */
export const requestId = createMiddleware<ApiEnv>(async function requestId(c, next) {
  c.set("requestId", crypto.randomUUID());
  await next();
  c.res.headers.set("x-request-id", c.get("requestId"));
});
