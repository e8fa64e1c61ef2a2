import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { HostCatalog } from "../../catalog/hosts.ts";
import { ApiError } from "../../contract/errors.ts";
import { HostCreateSchema, HostSchema, NewHostSchema } from "../../contract/host.ts";
import { deriveHostKey, formatJoinToken } from "../../contract/host-token.ts";
import { newId } from "../../contract/ids.ts";
import { DEFAULT_ENVIRONMENT } from "../../contract/key.ts";
import { IdempotencyHeadersSchema, ListQueryShape, pageSchema } from "../../contract/list.ts";
import type { Principal } from "../../auth/principal.ts";
import type { ApiEnv } from "../env.ts";
import { idempotent } from "../idempotent.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";

const HostParamsSchema = z.object({ host_id: z.string() });

const createHostRoute = createRoute({
  method: "post",
  path: "/hosts",
  operationId: "createHost",
  tags: ["Hosts"],
  summary: "Create Host",
  description: "Make a token with which one machine joins as a host. It is shown in this answer and never again.",
  security: requires("admin"),
  request: { headers: IdempotencyHeadersSchema, body: jsonBody(HostCreateSchema) },
  responses: { 201: json("Host created.", NewHostSchema), ...problem },
});

const listRoute = createRoute({
  method: "get",
  path: "/hosts",
  operationId: "listHosts",
  tags: ["Hosts"],
  summary: "List Hosts",
  security: requires("admin"),
  request: { query: z.strictObject(ListQueryShape) },
  responses: { 200: json("A page of hosts.", pageSchema(HostSchema)), ...problem },
});

const getRoute = createRoute({
  method: "get",
  path: "/hosts/{host_id}",
  operationId: "getHost",
  tags: ["Hosts"],
  summary: "Get Host",
  security: requires("admin"),
  request: { params: HostParamsSchema },
  responses: { 200: json("The host.", HostSchema), ...problem },
});

const removeRoute = createRoute({
  method: "delete",
  path: "/hosts/{host_id}",
  operationId: "removeHost",
  tags: ["Hosts"],
  summary: "Remove Host",
  description: "The host gets no more sandboxes and its token is refused. Removing it again changes nothing.",
  security: requires("admin"),
  request: { params: HostParamsSchema },
  responses: { 204: { description: "Host removed." }, ...problem },
});

export function registerHosts(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(createHostRoute, async (c) => {
    requireOperator(c.get("principal"));
    const create = c.req.valid("json");
    const newPlan = () => ({ hostId: newId("host") });
    const answer = await idempotent(c, create, newPlan, async ({ hostId }) => {
      await new HostCatalog(c.env.DB).add(hostId, create.name, Date.now());
      return { host_id: hostId, token: formatJoinToken(hostId, await deriveHostKey(c.env.SIGNING_SECRET, hostId)) };
    });
    return c.json(answer, 201);
  });

  api.openapi(listRoute, async (c) => {
    requireOperator(c.get("principal"));
    return c.json(await new HostCatalog(c.env.DB).list(Date.now(), c.req.valid("query")), 200);
  });

  api.openapi(getRoute, async (c) => {
    requireOperator(c.get("principal"));
    const host = await new HostCatalog(c.env.DB).find(c.req.valid("param").host_id, Date.now());
    if (!host) throw hostNotFound();
    return c.json(host, 200);
  });

  api.openapi(removeRoute, async (c) => {
    requireOperator(c.get("principal"));
    const removed = await new HostCatalog(c.env.DB).remove(c.req.valid("param").host_id, Date.now());
    if (!removed) throw hostNotFound();
    return c.body(null, 204);
  });
}

/** Hosts run the sandboxes of every environment, so only admins of the main one may touch them. */
function requireOperator(principal: Principal): void {
  if (principal.environment !== DEFAULT_ENVIRONMENT) {
    throw new ApiError("forbidden", {
      detail: `Hosts belong to admins of the environment \`${DEFAULT_ENVIRONMENT}\`.`,
    });
  }
}

const hostNotFound = () => new ApiError("not_found", { detail: "There is no such host." });
