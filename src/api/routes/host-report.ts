import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { ApiError } from "../../contract/errors.ts";
import { HostOrdersSchema, HostReportSchema } from "../../contract/host-report.ts";
import type { ApiEnv } from "../env.ts";
import { requireHostSignature } from "../host-signature.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { takeReport } from "../take-report.ts";

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
    return c.json(
      await takeReport(c.env, report, { keyVersion: c.get("hostKeyVersion"), standing: c.get("hostStanding") }),
      200,
    );
  });
}
