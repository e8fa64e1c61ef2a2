import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { TunnelsSchema } from "../../contract/sandbox.ts";
import type { ApiEnv } from "../env.ts";
import { json, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { tunnelOrigin } from "../tunnel.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const route = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/tunnels",
  operationId: "listTunnels",
  tags: ["Sandboxes"],
  summary: "List Sandbox Tunnels",
  description: "How the ports of the sandbox are reached, keyed by container port.",
  security: requires("read"),
  request: { params: SandboxParamsSchema },
  responses: { 200: json("Tunnels for the Sandbox.", TunnelsSchema), ...problem },
});

export function registerTunnels(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    return c.json(await sandbox.tunnels(c.get("principal"), tunnelOrigin(c.req.url, c.env)), 200);
  });
}
