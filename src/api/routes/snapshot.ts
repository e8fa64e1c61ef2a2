import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { newId } from "../../contract/ids.ts";
import { ImageSchema, SNAPSHOT_TTL_S } from "../../contract/image.ts";
import { prefersAsync, SnapshotHeadersSchema, SnapshotRequestSchema } from "../../contract/snapshot.ts";
import type { ApiEnv } from "../env.ts";
import { idempotent } from "../idempotent.ts";
import { json, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const route = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/snapshot",
  operationId: "snapshotSandbox",
  tags: ["Sandboxes"],
  summary: "Snapshot Sandbox Filesystem",
  description:
    "Capture the sandbox's filesystem as an image. `image` of a create takes its id, on any host. The sandbox keeps running. With " +
    "`Prefer: respond-async` the answer comes at once, and `status` of the image tells what becomes of it.",
  security: requires("write"),
  request: {
    params: SandboxParamsSchema,
    headers: SnapshotHeadersSchema,
    body: { required: false, content: { "application/json": { schema: SnapshotRequestSchema } } },
  },
  responses: {
    200: json("Snapshot image created.", ImageSchema),
    202: json("The image is being made.", ImageSchema),
    ...problem,
  },
});

export function registerSnapshot(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const { sandbox_id: sandboxId } = c.req.valid("param");
    const { name, ttl = SNAPSHOT_TTL_S } = c.req.valid("json");
    const isAsync = prefersAsync(c.req.header("prefer"));
    const scope = c.get("principal");
    const sandbox = openSandbox(c.env, sandboxId);
    const newPlan = () => ({ imageId: newId("image") });
    const image = await idempotent(c, { name, ttl, isAsync }, newPlan, ({ imageId }) =>
      sandbox.snapshot(scope, { imageId, name, ttl }, isAsync),
    );
    if (!isAsync) return c.json(image, 200);
    const headers = { "preference-applied": "respond-async", location: `/v1/images/${image.image_id}` };
    return c.json(image, 202, headers);
  });
}
