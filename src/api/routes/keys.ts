import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { describeKey, KeyCatalog } from "../../catalog/keys.ts";
import { ApiError } from "../../contract/errors.ts";
import { newId } from "../../contract/ids.ts";
import { KeyCreateSchema, KeySchema, NewKeySchema } from "../../contract/key.ts";
import { IdempotencyHeadersSchema, ListQueryShape, pageSchema } from "../../contract/list.ts";
import { newApiKey } from "../api-key.ts";
import { sha256Hex } from "../../auth/digest.ts";
import type { Principal } from "../../auth/principal.ts";
import type { ApiEnv } from "../env.ts";
import { idempotent } from "../idempotent.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";

const createKeyRoute = createRoute({
  method: "post",
  path: "/keys",
  operationId: "createKey",
  tags: ["Keys"],
  summary: "Create Key",
  description: "Create an API key. `key` is shown in this answer and never again.",
  security: requires("admin"),
  request: { headers: IdempotencyHeadersSchema, body: jsonBody(KeyCreateSchema) },
  responses: { 201: json("Key created.", NewKeySchema), ...problem },
});

const listRoute = createRoute({
  method: "get",
  path: "/keys",
  operationId: "listKeys",
  tags: ["Keys"],
  summary: "List Keys",
  description:
    "The keys of the environment that are not revoked; the deployment's own admin key sees all environments.",
  security: requires("admin"),
  request: { query: z.strictObject(ListQueryShape) },
  responses: { 200: json("A page of keys.", pageSchema(KeySchema)), ...problem },
});

const revokeRoute = createRoute({
  method: "delete",
  path: "/keys/{key_id}",
  operationId: "revokeKey",
  tags: ["Keys"],
  summary: "Revoke Key",
  description: "The key is refused from now on. Revoking it again changes nothing.",
  security: requires("admin"),
  request: { params: z.object({ key_id: z.string() }) },
  responses: { 204: { description: "Key revoked." }, ...problem },
});

export function registerKeys(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(createKeyRoute, async (c) => {
    const create = c.req.valid("json");
    const principal = c.get("principal");
    const environment = create.environment ?? principal.environment;
    if (environment !== principal.environment && !principal.isBootstrap) {
      throw new ApiError("forbidden", { detail: "The key is admin of its own environment only." });
    }
    const newPlan = () => ({ keyId: newId("key"), key: newApiKey(), createdAt: Date.now() });
    const answer = await idempotent(c, create, newPlan, async ({ keyId, key, createdAt }) => {
      const row = {
        keyId,
        environment,
        name: create.name,
        hash: await sha256Hex(key),
        scopes: [...new Set(create.scopes)],
        createdAt,
      };
      await new KeyCatalog(c.env.DB).add(row);
      return { ...describeKey(row), key };
    });
    return c.json(answer, 201);
  });

  api.openapi(listRoute, async (c) => {
    const page = await new KeyCatalog(c.env.DB).list(reach(c.get("principal")), c.req.valid("query"));
    return c.json(page, 200);
  });

  api.openapi(revokeRoute, async (c) => {
    const { key_id } = c.req.valid("param");
    const revoked = await new KeyCatalog(c.env.DB).revoke(reach(c.get("principal")), key_id, Date.now());
    if (!revoked) throw new ApiError("not_found", { detail: "There is no such key." });
    return c.body(null, 204);
  });
}

/** The environment whose keys the caller reaches; undefined for all. */
const reach = (principal: Principal) => (principal.isBootstrap ? undefined : principal.environment);
