import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { VolumeCatalog } from "../../catalog/volumes.ts";
import { newId } from "../../contract/ids.ts";
import { IdempotencyHeadersSchema, ListQueryShape, pageSchema } from "../../contract/list.ts";
import { VolumeCreateSchema, VolumeDetailSchema, VolumeSchema } from "../../contract/volume.ts";
import { openVolume } from "../../volumes/client.ts";
import { createVolume } from "../create-volume.ts";
import { deleteVolume } from "../delete-volume.ts";
import type { ApiEnv } from "../env.ts";
import { findVolume } from "../find-volumes.ts";
import { idempotent } from "../idempotent.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";

export const VolumeParamsSchema = z.object({ volume_id: z.string() });

const createVolumeRoute = createRoute({
  method: "post",
  path: "/volumes",
  operationId: "createVolume",
  tags: ["Volumes"],
  summary: "Create Volume",
  description: "Make an empty volume, for sandboxes to mount at create.",
  security: requires("write"),
  request: { headers: IdempotencyHeadersSchema, body: jsonBody(VolumeCreateSchema) },
  responses: { 201: json("Volume created.", VolumeSchema), ...problem },
});

const listRoute = createRoute({
  method: "get",
  path: "/volumes",
  operationId: "listVolumes",
  tags: ["Volumes"],
  summary: "List Volumes",
  security: requires("read"),
  request: { query: z.strictObject(ListQueryShape) },
  responses: { 200: json("A page of volumes, newest first.", pageSchema(VolumeSchema)), ...problem },
});

const getRoute = createRoute({
  method: "get",
  path: "/volumes/{volume_id}",
  operationId: "getVolume",
  tags: ["Volumes"],
  summary: "Get Volume",
  security: requires("read"),
  request: { params: VolumeParamsSchema },
  responses: { 200: json("The volume, and how much is in it.", VolumeDetailSchema), ...problem },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/volumes/{volume_id}",
  operationId: "deleteVolume",
  tags: ["Volumes"],
  summary: "Delete Volume",
  description:
    "With all that is in it. While live sandboxes use it, it is refused with 409: `sandboxes` names some of them, `sandbox_count` " +
    "counts all.",
  security: requires("write"),
  request: { params: VolumeParamsSchema },
  responses: { 204: { description: "Volume deleted." }, ...problem },
});

export function registerVolumes(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(createVolumeRoute, async (c) => {
    const { environment } = c.get("principal");
    const { name } = c.req.valid("json");
    const newPlan = () => ({ volumeId: newId("volume"), createdAt: Date.now() });
    const volume = await idempotent(c, { name }, newPlan, (plan) =>
      createVolume(c.env, { ...plan, environment, name }),
    );
    return c.json(volume, 201);
  });

  api.openapi(listRoute, async (c) => {
    const { environment } = c.get("principal");
    return c.json(await new VolumeCatalog(c.env.DB).list(environment, c.req.valid("query")), 200);
  });

  api.openapi(getRoute, async (c) => {
    const { volume_id: volumeId } = c.req.valid("param");
    const { environment } = c.get("principal");
    const volume = await findVolume(c.env, environment, volumeId);
    return c.json({ ...volume, ...(await openVolume(c.env, volumeId).contents({ environment })) }, 200);
  });

  api.openapi(deleteRoute, async (c) => {
    await deleteVolume(c.env, c.get("principal").environment, c.req.valid("param").volume_id);
    return c.body(null, 204);
  });
}
