import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { IdempotencyHeadersSchema } from "../../contract/list.ts";
import { ForkRequestSchema, ForkSchema } from "../../contract/snapshot.ts";
import type { ApiEnv } from "../env.ts";
import { forkSandbox, newForkPlan } from "../fork-sandbox.ts";
import { idempotent } from "../idempotent.ts";
import { json, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const route = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/fork",
  operationId: "forkSandbox",
  tags: ["Sandboxes"],
  summary: "Fork Sandbox",
  description:
    "Take one snapshot and create `count` sandboxes from it, made as this one was but for its name: all of them or none. Files " +
    "are carried over, processes are not.",
  security: requires("write"),
  request: {
    params: SandboxParamsSchema,
    headers: IdempotencyHeadersSchema,
    body: { required: false, content: { "application/json": { schema: ForkRequestSchema } } },
  },
  responses: { 201: json("The forks.", ForkSchema), ...problem },
});

export function registerFork(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const { sandbox_id: sandboxId } = c.req.valid("param");
    const request = ForkRequestSchema.parse(c.req.valid("json"));
    const scope = c.get("principal");
    const newPlan = () => newForkPlan(request.count);
    const fork = await idempotent(c, request, newPlan, (plan, isFirst) =>
      forkSandbox(c.env, scope, sandboxId, request, plan, isFirst),
    );
    return c.json(fork, 201);
  });
}
