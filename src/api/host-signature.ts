import { createMiddleware } from "hono/factory";
import { HostCatalog } from "../catalog/hosts.ts";
import { ApiError } from "../contract/errors.ts";
import { CONTROL_PLANE_AUDIENCE, deriveHostKey, verifyRequest } from "../contract/host-token.ts";
import type { ApiEnv } from "./env.ts";

/**
 * Takes only requests that the host of the path has signed, with a key that it may still have. It stands in for an API key.
 * Throws `unauthenticated`, and `forbidden` for a host that was removed.
 */
export const requireHostSignature = createMiddleware<ApiEnv>(async function requireHostSignature(c, next) {
  const url = new URL(c.req.url);
  const hostId = c.req.param("host_id") ?? "";
  const findKey = (version: number) => deriveHostKey(c.env.SIGNING_SECRET, hostId, version);
  const version = await verifyRequest(findKey, CONTROL_PLANE_AUDIENCE, {
    authorization: c.req.header("authorization"),
    method: c.req.method,
    target: url.pathname + url.search,
  });
  // Only now: who has no key at all has nothing read.
  const standing = await new HostCatalog(c.env.DB).standing(hostId);
  if (typeof standing?.removedAt === "number") throw new ApiError("forbidden", { detail: "The host was removed." });
  const { oldestKeyVersion, keyVersion } = standing ?? { oldestKeyVersion: 1, keyVersion: 1 };
  if (version < oldestKeyVersion || version > keyVersion) {
    throw new ApiError("unauthenticated", { detail: "The host's key is no longer taken: it is to be joined anew." });
  }
  c.set("hostKeyVersion", version);
  c.set("hostStanding", standing);
  await next();
});
