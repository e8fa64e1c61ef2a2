import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { describeImage, ImageCatalog } from "../../catalog/images.ts";
import { newId } from "../../contract/ids.ts";
import { ImageSchema, SNAPSHOT_TTL_S } from "../../contract/image.ts";
import { IdempotencyHeadersSchema } from "../../contract/list.ts";
import { SnapshotRequestSchema } from "../../contract/sandbox.ts";
import { dropImage } from "../../placement/drop-image.ts";
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
  description: "Capture the sandbox's filesystem as an image. `image` of a create takes its id.",
  security: requires("write"),
  request: {
    params: SandboxParamsSchema,
    headers: IdempotencyHeadersSchema,
    body: { required: false, content: { "application/json": { schema: SnapshotRequestSchema } } },
  },
  responses: { 200: json("Snapshot image created.", ImageSchema), ...problem },
});

export function registerSnapshot(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const { sandbox_id: sandboxId } = c.req.valid("param");
    const { name } = c.req.valid("json");
    const scope = c.get("principal");
    const sandbox = openSandbox(c.env, sandboxId);
    const newPlan = () => ({ imageId: newId("image") });
    const image = await idempotent(c, { name }, newPlan, async ({ imageId }, isFirst) => {
      const before = isFirst
        ? undefined
        : await new ImageCatalog(c.env.DB).find(scope.environment, imageId, Date.now());
      if (before) return describeImage(before);
      const { size, hostId, snapshotId } = await sandbox.snapshot(scope, imageId);
      const createdAt = Date.now();
      const row = {
        imageId,
        environment: scope.environment,
        sandboxId,
        name: name ?? null,
        backend: hostId === undefined ? ("cloudflare" as const) : ("docker" as const),
        hostId: hostId ?? null,
        snapshotId: snapshotId ?? null,
        size,
        createdAt,
        expiresAt: createdAt + SNAPSHOT_TTL_S * 1000,
      };
      try {
        return describeImage(await new ImageCatalog(c.env.DB).add(row));
      } catch (error) {
        // Nobody could ever name it: it must not stay on the host. With a key the request can be repeated, and finds it.
        if (c.req.header("idempotency-key") === undefined) await dropImage(c.env, row).catch(() => undefined);
        throw error;
      }
    });
    return c.json(image, 200);
  });
}
