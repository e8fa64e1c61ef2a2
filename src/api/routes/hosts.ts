import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { HostCatalog } from "../../catalog/hosts.ts";
import { ApiError } from "../../contract/errors.ts";
import type { HostClock } from "../../catalog/host-document.ts";
import {
  HostCreateSchema,
  HostKeyRotationSchema,
  HostPatchSchema,
  HostSchema,
  type Host,
  NewHostKeySchema,
  NewHostSchema,
  type NewHostKey,
} from "../../contract/host.ts";
import { deriveHostKey, formatJoinToken } from "../../contract/host-token.ts";
import { newId } from "../../contract/ids.ts";
import { IdempotencyHeadersSchema, ListQueryShape, pageSchema } from "../../contract/list.ts";
import { openPlacement } from "../../placement/client.ts";
import type { Principal } from "../../auth/principal.ts";
import { limitsOf } from "../../contract/limits.ts";
import type { ApiEnv, Env } from "../env.ts";
import { idempotent } from "../idempotent.ts";
import { withLiveFigures } from "../live-hosts.ts";
import { requireMainEnvironment } from "../main-environment.ts";
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

const patchRoute = createRoute({
  method: "patch",
  path: "/hosts/{host_id}",
  operationId: "updateHost",
  tags: ["Hosts"],
  summary: "Update Host",
  description: "Rename the host, or let it drain: it gets no new sandboxes, and those that it has go on.",
  security: requires("admin"),
  request: { params: HostParamsSchema, body: jsonBody(HostPatchSchema) },
  responses: { 200: json("The host as it is now.", HostSchema), ...problem },
});

const rotateKeyRoute = createRoute({
  method: "post",
  path: "/hosts/{host_id}/rotate-key",
  operationId: "rotateHostKey",
  tags: ["Hosts"],
  summary: "Rotate Host Key",
  description:
    "Give the host a new key. It is handed over in the answer to its next report, nothing stops, and the old one is refused a minute " +
    "or two later; it is done when the host shows no `next_key_version` any more. With `revoke`, for a key that has leaked, the " +
    "old one is refused at once: the answer has a token, shown once, with which the host is to be started anew.",
  security: requires("admin"),
  request: {
    params: HostParamsSchema,
    headers: IdempotencyHeadersSchema,
    body: { required: false, content: { "application/json": { schema: HostKeyRotationSchema } } },
  },
  responses: { 202: json("The host is to have a new key.", NewHostKeySchema), ...problem },
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
    const clock = clockOf(c.env);
    const { data, ...rest } = await new HostCatalog(c.env.DB).list(clock, c.req.valid("query"));
    return c.json({ data: await withLiveFigures(c.env, data, clock), ...rest }, 200);
  });

  api.openapi(getRoute, async (c) => {
    requireOperator(c.get("principal"));
    const clock = clockOf(c.env);
    return c.json(
      await live(c.env, await new HostCatalog(c.env.DB).find(c.req.valid("param").host_id, clock), clock),
      200,
    );
  });

  api.openapi(patchRoute, async (c) => {
    requireOperator(c.get("principal"));
    const { host_id: hostId } = c.req.valid("param");
    const clock = clockOf(c.env);
    const host = await new HostCatalog(c.env.DB).patch(hostId, c.req.valid("json"), clock);
    // Where this fails, the host's next report brings it.
    if (host) await openPlacement(c.env).setDraining(hostId, host.draining);
    return c.json(await live(c.env, host, clock), 200);
  });

  api.openapi(rotateKeyRoute, async (c) => {
    requireOperator(c.get("principal"));
    const { host_id: hostId } = c.req.valid("param");
    const { revoke = false } = c.req.valid("json");
    const catalog = new HostCatalog(c.env.DB);
    const before = await catalog.standing(hostId);
    const newPlan = () => ({ version: (before?.keyVersion ?? 0) + 1 });
    const answer = await idempotent(c, { revoke }, newPlan, async ({ version }): Promise<NewHostKey> => {
      if (!(await catalog.rotateKey(hostId, version, revoke))) throw hostNotFound();
      if (revoke) await openPlacement(c.env).distrust(hostId, version);
      if (!revoke) return { host_id: hostId, next_key_version: version };
      const key = await deriveHostKey(c.env.SIGNING_SECRET, hostId, version);
      return { host_id: hostId, next_key_version: version, token: formatJoinToken(hostId, key, version) };
    });
    return c.json(answer, 202);
  });

  api.openapi(removeRoute, async (c) => {
    requireOperator(c.get("principal"));
    const { host_id: hostId } = c.req.valid("param");
    if (!(await new HostCatalog(c.env.DB).remove(hostId, Date.now()))) throw hostNotFound();
    await openPlacement(c.env).forget(hostId);
    return c.body(null, 204);
  });
}

/** Hosts run the sandboxes of every environment. */
const requireOperator = (principal: Principal) => requireMainEnvironment(principal, "Hosts belong");

/** Throws `not_found` where there is none. */
async function live(env: Env, host: Host | undefined, clock: HostClock): Promise<Host> {
  const [found] = host ? await withLiveFigures(env, [host], clock) : [];
  if (!found) throw hostNotFound();
  return found;
}

const clockOf = (env: Env): HostClock => ({ now: Date.now(), lostAfterMs: limitsOf(env).hostLostAfterMs });

const hostNotFound = () => new ApiError("not_found", { detail: "There is no such host." });
