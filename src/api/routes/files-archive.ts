import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { FileQuerySchema } from "../../contract/file.ts";
import { bytesResponse, SANDBOX_CONTENT } from "../bytes-response.ts";
import type { ApiEnv } from "../env.ts";
import { openOrRecall } from "../open-source.ts";
import { problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { upload } from "../upload.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const TAR = "application/x-tar";
const binary = { schema: z.string().meta({ format: "binary" }) };
const query = z.strictObject(FileQuerySchema.shape);

const readRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/files/archive",
  operationId: "readSandboxArchive",
  tags: ["Filesystem"],
  summary: "Read Sandbox Archive",
  description:
    "What the directory holds as a tar archive, its names relative to the directory; of a file the one file. It streams: where " +
    "it cannot be read to its end the answer is cut, never ended.",
  security: requires("read"),
  request: { params: SandboxParamsSchema, query },
  responses: { 200: { description: "The archive.", content: { [TAR]: binary } }, ...problem },
});

const writeRoute = createRoute({
  method: "put",
  path: "/sandboxes/{sandbox_id}/files/archive",
  operationId: "writeSandboxArchive",
  tags: ["Filesystem"],
  summary: "Write Sandbox Archive",
  description:
    "Unpack a tar archive into the directory, which is made if it is not there. What else is there stays. An archive that is cut " +
    "off, or that is none, changes nothing.",
  security: requires("write"),
  request: {
    params: SandboxParamsSchema,
    query,
    body: { required: true, content: { [TAR]: binary, "application/octet-stream": binary } },
  },
  responses: { 204: { description: "Unpacked." }, ...problem },
});

export function registerFileArchive(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(readRoute, async (c) => {
    const { path } = c.req.valid("query");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const scope = c.get("principal");
    const body = await openOrRecall(
      await sandbox.readArchive(scope, path),
      (failure) => sandbox.readArchive(scope, path, failure),
      c.req.raw.signal,
    );
    const headers = { ...SANDBOX_CONTENT, "content-type": TAR, "cache-control": "no-store" };
    return bytesResponse(body, c.req.method === "HEAD", headers);
  });

  api.openapi(writeRoute, async (c) => {
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const { path } = c.req.valid("query");
    await upload(sandbox, c.get("principal"), c.req.raw, (options) => ({ what: "archive", path, options }));
    return c.body(null, 204);
  });
}
