import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { ConnectTokenCreateSchema, ConnectTokenSchema } from "../../contract/connect-token.ts";
import type { ApiEnv } from "../env.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { tunnelOrigin } from "../tunnel.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const route = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/connect-tokens",
  operationId: "createConnectToken",
  tags: ["Sandboxes"],
  summary: "Create Connect Token",
  description:
    'A token for one of the sandbox\'s tunnels, which those of `tunnel_auth: "token"` ask for. It is sent as `Authorization: Bearer`, ' +
    "or once in the query as `_sandbar_token`, for which a browser gets a cookie. The app never sees it; it gets the " +
    "`user_metadata` as `X-Verified-User-Data`.",
  security: requires("write"),
  request: { params: SandboxParamsSchema, body: jsonBody(ConnectTokenCreateSchema) },
  responses: { 201: json("Token created.", ConnectTokenSchema), ...problem },
});

export function registerConnectTokens(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const origin = tunnelOrigin(c.req.url, c.env);
    return c.json(await sandbox.connectToken(c.get("principal"), c.req.valid("json"), origin), 201);
  });
}
