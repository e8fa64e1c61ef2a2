import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { hmacHex } from "../../auth/digest.ts";
import { SecretCatalog } from "../../catalog/secrets.ts";
import { ApiError } from "../../contract/errors.ts";
import { newId } from "../../contract/ids.ts";
import { IdempotencyHeadersSchema, ListQueryShape, pageSchema } from "../../contract/list.ts";
import {
  SecretCreateSchema,
  SecretReplaceSchema,
  SecretRewrapSchema,
  SecretSchema,
  type SecretCreate,
} from "../../contract/secret.ts";
import { SecretVault } from "../../secrets/vault.ts";
import type { ApiEnv, Env } from "../env.ts";
import { idempotent } from "../idempotent.ts";
import { inUse } from "../in-use.ts";
import { requireMainEnvironment } from "../main-environment.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";

const SecretParamsSchema = z.object({ secret_id: z.string() });

const createSecretRoute = createRoute({
  method: "post",
  path: "/secrets",
  operationId: "createSecret",
  tags: ["Secrets"],
  summary: "Create Secret",
  description:
    "Keep a set of variables, encrypted, for sandboxes to name at create. What they hold is never shown again.",
  security: requires("write"),
  request: { headers: IdempotencyHeadersSchema, body: jsonBody(SecretCreateSchema) },
  responses: { 201: json("Secret created.", SecretSchema), ...problem },
});

const listRoute = createRoute({
  method: "get",
  path: "/secrets",
  operationId: "listSecrets",
  tags: ["Secrets"],
  summary: "List Secrets",
  security: requires("read"),
  request: { query: z.strictObject(ListQueryShape) },
  responses: { 200: json("A page of secrets.", pageSchema(SecretSchema)), ...problem },
});

const getRoute = createRoute({
  method: "get",
  path: "/secrets/{secret_id}",
  operationId: "getSecret",
  tags: ["Secrets"],
  summary: "Get Secret",
  security: requires("read"),
  request: { params: SecretParamsSchema },
  responses: { 200: json("The secret, without its values.", SecretSchema), ...problem },
});

const replaceRoute = createRoute({
  method: "put",
  path: "/secrets/{secret_id}",
  operationId: "replaceSecret",
  tags: ["Secrets"],
  summary: "Replace Secret",
  description: "Sandboxes that start from now on get these variables and no others of it; those that run keep theirs.",
  security: requires("write"),
  request: { params: SecretParamsSchema, body: jsonBody(SecretReplaceSchema) },
  responses: { 200: json("The secret as it is now.", SecretSchema), ...problem },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/secrets/{secret_id}",
  operationId: "deleteSecret",
  tags: ["Secrets"],
  summary: "Delete Secret",
  description:
    "While live sandboxes use it, it is refused with 409: `sandboxes` names some of them, `sandbox_count` counts all.",
  security: requires("write"),
  request: { params: SecretParamsSchema },
  responses: { 204: { description: "Secret deleted." }, ...problem },
});

const rewrapRoute = createRoute({
  method: "post",
  path: "/secrets/rewrap",
  operationId: "rewrapSecrets",
  tags: ["Secrets"],
  summary: "Rewrap Secrets",
  description:
    "After a change of the deployment's `SECRETS_KEY`: puts the secrets of all environments under the new one, some 2,000 a call. " +
    "Once `keys` names the new one only, the old one can be dropped.",
  security: requires("admin"),
  responses: { 200: json("What was done, and what is left.", SecretRewrapSchema), ...problem },
});

export function registerSecrets(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(createSecretRoute, async (c) => {
    const { environment } = c.get("principal");
    const create = c.req.valid("json");
    const newPlan = () => ({ secretId: newId("secret"), createdAt: Date.now() });
    const answer = await idempotent(c, await withoutValues(c.env, create), newPlan, ({ secretId, createdAt }) =>
      new SecretVault(c.env).add({ environment, secretId }, create.name, create.values, createdAt),
    );
    return c.json(answer, 201);
  });

  api.openapi(listRoute, async (c) => {
    const { environment } = c.get("principal");
    return c.json(await new SecretCatalog(c.env.DB).list(environment, c.req.valid("query")), 200);
  });

  api.openapi(getRoute, async (c) => {
    const { secret_id: secretId } = c.req.valid("param");
    const secret = await new SecretCatalog(c.env.DB).find(c.get("principal").environment, secretId);
    if (!secret) throw secretNotFound(secretId);
    return c.json(secret, 200);
  });

  api.openapi(replaceRoute, async (c) => {
    const { environment } = c.get("principal");
    const { secret_id: secretId } = c.req.valid("param");
    const { values } = c.req.valid("json");
    const secret = await new SecretVault(c.env).replace({ environment, secretId }, values, Date.now());
    if (!secret) throw secretNotFound(secretId);
    return c.json(secret, 200);
  });

  api.openapi(deleteRoute, async (c) => {
    const { secret_id: secretId } = c.req.valid("param");
    const removal = await new SecretCatalog(c.env.DB).remove(c.get("principal").environment, secretId);
    if (removal.kind === "missing") throw secretNotFound(secretId);
    if (removal.kind === "in_use") throw inUse(`The secret ${secretId}`, removal);
    return c.body(null, 204);
  });

  api.openapi(rewrapRoute, async (c) => {
    requireMainEnvironment(c.get("principal"), "The deployment's keys belong");
    return c.json(await new SecretVault(c.env).rewrap(), 200);
  });
}

/** A plain hash of the request is kept with its idempotency key: short values could be found out by trying. */
async function withoutValues(env: Env, { name, values }: SecretCreate) {
  return { name, values: await hmacHex(env.SIGNING_SECRET, `sandbar-secret-request:${JSON.stringify(values)}`) };
}

const secretNotFound = (secretId: string) =>
  new ApiError("secret_not_found", { detail: `There is no secret ${secretId}.` });
