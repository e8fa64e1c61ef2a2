import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { SandboxCatalog } from "../../catalog/sandboxes.ts";
import { NameSchema } from "../../contract/fields.ts";
import { IdempotencyHeadersSchema, ListQueryShape } from "../../contract/list.ts";
import {
  isLive,
  SANDBOX_STATES,
  SandboxCreateSchema,
  SandboxPageSchema,
  SandboxPatchSchema,
  SandboxSchema,
} from "../../contract/sandbox.ts";
import { createSandbox, newCreatePlan, withOwnReference } from "../create-sandbox.ts";
import type { ApiEnv } from "../env.ts";
import { idempotent } from "../idempotent.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { updateSandbox } from "../update-sandbox.ts";

const STATE_WORDS = [...SANDBOX_STATES, "live", "ended"] as const;
const LIVE_STATES = SANDBOX_STATES.filter(isLive);
const ENDED_STATES = SANDBOX_STATES.filter((state) => !isLive(state));

const MAX_TAG_CONDITIONS = 20;

/** A query parameter that may be repeated: always a list inside. */
const repeatable = <Item extends z.ZodType>(item: Item, max: number) =>
  z.preprocess((value) => (typeof value === "string" ? [value] : value), z.array(item).max(max)).optional();

const ListQuerySchema = z.strictObject({
  app_id: z.string().max(128).optional(),
  tag: repeatable(z.string().min(1).max(257), MAX_TAG_CONDITIONS).meta({
    type: "string",
    description: "`key` or `key=value`; repeat it to ask for several, all of which must be there.",
  }),
  name: NameSchema.optional(),
  state: repeatable(z.enum(STATE_WORDS), STATE_WORDS.length).meta({
    type: "string",
    description: `One of ${STATE_WORDS.join(", ")}; repeat it to ask for any of several.`,
  }),
  ...ListQueryShape,
});

export const SandboxParamsSchema = z.object({ sandbox_id: z.string() });

const listRoute = createRoute({
  method: "get",
  path: "/sandboxes",
  operationId: "listSandboxes",
  tags: ["Sandboxes"],
  summary: "List Sandboxes",
  description: "List the sandboxes of the key's environment, newest first, ended ones included.",
  security: requires("read"),
  request: { query: ListQuerySchema },
  responses: { 200: json("A page of sandboxes.", SandboxPageSchema), ...problem },
});

const createSandboxRoute = createRoute({
  method: "post",
  path: "/sandboxes",
  operationId: "createSandbox",
  tags: ["Sandboxes"],
  summary: "Create Sandbox",
  description:
    "Create a sandbox. The answer comes as soon as the sandbox exists; calls that need its container wait for the start.",
  security: requires("write"),
  request: { headers: IdempotencyHeadersSchema, body: jsonBody(SandboxCreateSchema) },
  responses: { 201: json("Sandbox created.", SandboxSchema), ...problem },
});

const getRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}",
  operationId: "getSandbox",
  tags: ["Sandboxes"],
  summary: "Get Sandbox",
  description: "Retrieve a single sandbox by id, also after it has ended.",
  security: requires("read"),
  request: { params: SandboxParamsSchema },
  responses: { 200: json("The Sandbox.", SandboxSchema), ...problem },
});

const updateRoute = createRoute({
  method: "patch",
  path: "/sandboxes/{sandbox_id}",
  operationId: "updateSandbox",
  tags: ["Sandboxes"],
  summary: "Update Sandbox",
  description:
    "Change what is given and nothing else: all of it, or nothing. A sandbox that has ended takes tags only. The host, which " +
    "ends the sandbox at its lifetime by itself, is told first: without it a `timeout` is refused with 503.",
  security: requires("write"),
  request: { params: SandboxParamsSchema, body: jsonBody(SandboxPatchSchema) },
  responses: { 200: json("The Sandbox.", SandboxSchema), ...problem },
});

const terminateRoute = createRoute({
  method: "delete",
  path: "/sandboxes/{sandbox_id}",
  operationId: "terminateSandbox",
  tags: ["Sandboxes"],
  summary: "Terminate Sandbox",
  description: "Terminate a sandbox and free its resources. Terminating it again changes nothing.",
  security: requires("write"),
  request: { params: SandboxParamsSchema },
  responses: { 204: { description: "Sandbox terminated." }, ...problem },
});

export function registerSandboxes(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(listRoute, async (c) => {
    const { app_id, name, tag, state, limit, cursor } = c.req.valid("query");
    const filter = {
      environment: c.get("principal").environment,
      appId: app_id,
      name,
      tags: tag?.map(parseTag),
      states: state?.flatMap((word) => (word === "live" ? LIVE_STATES : word === "ended" ? ENDED_STATES : [word])),
    };
    return c.json(await new SandboxCatalog(c.env.DB).list(filter, { limit, cursor }), 200);
  });

  api.openapi(createSandboxRoute, async (c) => {
    const create = withOwnReference(c.req.valid("json"), new URL(c.req.url).host);
    const { environment } = c.get("principal");
    const sandbox = await idempotent(c, create, newCreatePlan, (plan, isFirst) =>
      createSandbox(c.env, environment, create, plan, isFirst),
    );
    return c.json(sandbox, 201, { location: `/v1/sandboxes/${sandbox.sandbox_id}` });
  });

  api.openapi(getRoute, async (c) => {
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    return c.json(await sandbox.describe(c.get("principal")), 200);
  });

  api.openapi(updateRoute, async (c) => {
    const { environment } = c.get("principal");
    const sandboxId = c.req.valid("param").sandbox_id;
    return c.json(await updateSandbox(c.env, environment, sandboxId, c.req.valid("json")), 200);
  });

  api.openapi(terminateRoute, async (c) => {
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    await sandbox.terminate(c.get("principal"));
    return c.body(null, 204);
  });
}

/** `key` or `key=value`; a value may hold `=`. */
function parseTag(tag: string): { key: string; value?: string } {
  const at = tag.indexOf("=");
  return at < 0 ? { key: tag } : { key: tag.slice(0, at), value: tag.slice(at + 1) };
}
