import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { HostCatalog, type HostStanding } from "../../catalog/hosts.ts";
import { ApiError } from "../../contract/errors.ts";
import { HostOrdersSchema, HostReportSchema, type HostOrders } from "../../contract/host-protocol.ts";
import { deriveHostKey } from "../../contract/host-token.ts";
import { openPlacement } from "../../placement/client.ts";
import { reconcile } from "../../placement/reconcile.ts";
import type { ApiEnv } from "../env.ts";
import { requireHostSignature } from "../host-signature.ts";
import { json, jsonBody, problem } from "../responses.ts";

const WRITE_EVERY_MS = 60_000;

const route = createRoute({
  method: "post",
  path: "/hosts/{host_id}/report",
  operationId: "reportHost",
  tags: ["Hosts"],
  summary: "Report",
  description: "What a host says of itself every few seconds, signed with its own key.",
  // No API key: the host's signature stands in for it.
  security: [],
  middleware: requireHostSignature,
  request: { params: z.object({ host_id: z.string() }), body: jsonBody(HostReportSchema) },
  responses: { 200: json("What the host is to do.", HostOrdersSchema), ...problem },
});

export function registerHostReport(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const report = c.req.valid("json");
    if (report.info.host_id !== c.req.valid("param").host_id) {
      throw new ApiError("invalid_request", {
        detail: "A host reports for itself only.",
        errors: [{ path: "info.host_id", message: "must be the host of the path" }],
      });
    }
    const standing = c.get("hostStanding");
    const keyVersion = c.get("hostKeyVersion");
    const { draining = false } = standing ?? {};
    const { warm, isNews } = await openPlacement(c.env).report(report, { draining, keyVersion });
    if (
      (isNews || isDue(standing, keyVersion)) &&
      !(await new HostCatalog(c.env.DB).report(report, Date.now(), keyVersion))
    )
      throw new ApiError("forbidden", { detail: "The host was removed." });
    const [orders, key] = await Promise.all([reconcile(c.env, report), newKey(c, report.info.host_id)]);
    return c.json({ ...orders, ...(warm && { warm }), ...(key && { key }) }, 200);
  });
}

/** The catalog is told that a host is there now and then, and at once what it must know of its key. */
function isDue(standing: HostStanding | undefined, keyVersion: number): boolean {
  const { lastSeenAt, seenKeyVersion, oldestKeyVersion } = standing ?? {};
  if (seenKeyVersion !== keyVersion || oldestKeyVersion !== keyVersion) return true;
  return typeof lastSeenAt !== "number" || lastSeenAt <= Date.now() - WRITE_EVERY_MS;
}

/**
 * The key that the host is to have, until it reports with it. By the standing that its signature was judged by: a key that is
 * revoked meanwhile earns no newer one.
 */
async function newKey(c: Context<ApiEnv>, hostId: string): Promise<HostOrders["key"]> {
  const version = c.get("hostStanding")?.keyVersion ?? 1;
  if (c.get("hostKeyVersion") >= version) return undefined;
  return { version, key: await deriveHostKey(c.env.SIGNING_SECRET, hostId, version) };
}
