import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { VolumeCommitSchema, VolumeReloadSchema, VolumesOrderSchema } from "../../contract/volume-mount.ts";
import type { ApiEnv } from "../env.ts";
import { json, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const request = {
  params: SandboxParamsSchema,
  body: { required: false, content: { "application/json": { schema: VolumesOrderSchema } } },
};

const commitRoute = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/volumes/commit",
  operationId: "commitVolumes",
  tags: ["Volumes"],
  summary: "Commit Volumes",
  description:
    "Stores what was written to the volumes that the sandbox mounts: others see it once they reload, or mount the volume anew. With " +
    "`paths` only those mounted there. Where something cannot be stored now it is 502 `volume_not_stored`; asked again, it goes on.",
  security: requires("write"),
  request,
  responses: { 200: json("What is durable now.", z.object({ data: z.array(VolumeCommitSchema) })), ...problem },
});

const reloadRoute = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/volumes/reload",
  operationId: "reloadVolumes",
  tags: ["Volumes"],
  summary: "Reload Volumes",
  description:
    "Brings the volumes that the sandbox mounts to what others have committed; what was written here is committed before. With `paths` " +
    "only those mounted there.",
  security: requires("write"),
  request,
  responses: { 200: json("What the mounts show now.", z.object({ data: z.array(VolumeReloadSchema) })), ...problem },
});

export function registerSandboxVolumes(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(commitRoute, async (c) => {
    const { paths } = c.req.valid("json");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    return c.json({ data: await sandbox.commitVolumes(c.get("principal"), paths) }, 200);
  });

  api.openapi(reloadRoute, async (c) => {
    const { paths } = c.req.valid("json");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    return c.json({ data: await sandbox.reloadVolumes(c.get("principal"), paths) }, 200);
  });
}
