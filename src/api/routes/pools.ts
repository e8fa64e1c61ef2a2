import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { newId } from "../../contract/ids.ts";
import { IdempotencyHeadersSchema, ListQueryShape, pageSchema } from "../../contract/list.ts";
import { PoolCreateSchema, PoolPatchSchema, PoolSchema } from "../../contract/pool.ts";
import { openPlacement } from "../../placement/client.ts";
import { withOwnReference } from "../create-sandbox.ts";
import type { ApiEnv } from "../env.ts";
import { findImage } from "../find-image.ts";
import { idempotent } from "../idempotent.ts";
import { requireMadeFor } from "../made-elsewhere.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";

const PoolParamsSchema = z.object({ pool_id: z.string() });

const createPoolRoute = createRoute({
  method: "post",
  path: "/pools",
  operationId: "createPool",
  tags: ["Pools"],
  summary: "Create Pool",
  description:
    "Keep containers ready for creates that ask for the same image, size and place. They take room of hosts, and give way when it is needed.",
  security: requires("write"),
  request: { headers: IdempotencyHeadersSchema, body: jsonBody(PoolCreateSchema) },
  responses: { 201: json("Pool created.", PoolSchema), ...problem },
});

const listRoute = createRoute({
  method: "get",
  path: "/pools",
  operationId: "listPools",
  tags: ["Pools"],
  summary: "List Pools",
  security: requires("read"),
  request: { query: z.strictObject(ListQueryShape) },
  responses: { 200: json("A page of pools.", pageSchema(PoolSchema)), ...problem },
});

const getRoute = createRoute({
  method: "get",
  path: "/pools/{pool_id}",
  operationId: "getPool",
  tags: ["Pools"],
  summary: "Get Pool",
  security: requires("read"),
  request: { params: PoolParamsSchema },
  responses: { 200: json("The pool.", PoolSchema), ...problem },
});

const resizeRoute = createRoute({
  method: "patch",
  path: "/pools/{pool_id}",
  operationId: "updatePool",
  tags: ["Pools"],
  summary: "Update Pool",
  description: "Change how many containers are kept ready.",
  security: requires("write"),
  request: { params: PoolParamsSchema, body: jsonBody(PoolPatchSchema) },
  responses: { 200: json("The pool.", PoolSchema), ...problem },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/pools/{pool_id}",
  operationId: "deletePool",
  tags: ["Pools"],
  summary: "Delete Pool",
  description: "Its containers are removed; those that sandboxes have taken go on.",
  security: requires("write"),
  request: { params: PoolParamsSchema },
  responses: { 204: { description: "Pool deleted." }, ...problem },
});

export function registerPools(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(createPoolRoute, async (c) => {
    const { environment } = c.get("principal");
    const create = withOwnReference(c.req.valid("json"), new URL(c.req.url).host);
    const answer = await idempotent(
      c,
      create,
      () => ({ poolId: newId("pool") }),
      async ({ poolId }) => {
        const found = await findImage(c.env, environment, create.image);
        if (found) requireMadeFor(found.backend, "docker");
        return openPlacement(c.env).createPool({ poolId, environment, create, place: found?.place });
      },
    );
    return c.json(answer, 201);
  });

  api.openapi(listRoute, async (c) => {
    const { cursor, limit } = c.req.valid("query");
    return c.json(await openPlacement(c.env).pools(c.get("principal").environment, cursor, limit), 200);
  });

  api.openapi(getRoute, async (c) => {
    const { pool_id: poolId } = c.req.valid("param");
    return c.json(await openPlacement(c.env).pool(c.get("principal").environment, poolId), 200);
  });

  api.openapi(resizeRoute, async (c) => {
    const { pool_id: poolId } = c.req.valid("param");
    return c.json(
      await openPlacement(c.env).patchPool(c.get("principal").environment, poolId, c.req.valid("json")),
      200,
    );
  });

  api.openapi(deleteRoute, async (c) => {
    await openPlacement(c.env).deletePool(c.get("principal").environment, c.req.valid("param").pool_id);
    return c.body(null, 204);
  });
}
