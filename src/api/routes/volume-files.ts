import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { parseRange } from "../../contract/byte-range.ts";
import { FileInfoSchema, FileQuerySchema } from "../../contract/file.ts";
import { pageSchema } from "../../contract/list.ts";
import { openVolume } from "../../volumes/client.ts";
import { streamPieces } from "../../volumes/content-stream.ts";
import { PackStore } from "../../volumes/pack-store.ts";
import type { ApiEnv } from "../env.ts";
import { FileListQuerySchema, listRequestOf, pageOf } from "../file-pages.ts";
import { json, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { fileHead } from "./files.ts";

const ParamsSchema = z.object({ volume_id: z.string() });
const bytes = { "application/octet-stream": { schema: z.string().meta({ format: "binary" }) } };

const readRoute = createRoute({
  method: "get",
  path: "/volumes/{volume_id}/files",
  operationId: "readVolumeFile",
  tags: ["Volumes"],
  summary: "Read Volume File",
  description:
    "Read a file of the volume as it was last committed, or the one range of it that `Range` names. The path is absolute within the " +
    "volume; links are followed as long as they stay in it.",
  security: requires("read"),
  request: { params: ParamsSchema, query: z.strictObject(FileQuerySchema.shape) },
  responses: {
    200: { description: "File contents.", content: bytes },
    206: { description: "The range of the file.", content: bytes },
    ...problem,
  },
});

const statRoute = createRoute({
  method: "get",
  path: "/volumes/{volume_id}/files/stat",
  operationId: "statVolumeFile",
  tags: ["Volumes"],
  summary: "Stat Volume File",
  description: "What there is at the path: of a link the link itself. Owner and group are numbers.",
  security: requires("read"),
  request: { params: ParamsSchema, query: z.strictObject(FileQuerySchema.shape) },
  responses: { 200: json("What there is.", FileInfoSchema), ...problem },
});

const listRoute = createRoute({
  method: "get",
  path: "/volumes/{volume_id}/files/list",
  operationId: "listVolumeFiles",
  tags: ["Volumes"],
  summary: "List Volume Files",
  description: "What the directory holds, in the order of the paths. Links in it are shown, not followed.",
  security: requires("read"),
  request: { params: ParamsSchema, query: FileListQuerySchema },
  responses: { 200: json("A page of files.", pageSchema(FileInfoSchema)), ...problem },
});

export function registerVolumeFiles(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(readRoute, async (c) => {
    const { volume_id: volumeId } = c.req.valid("param");
    const { environment } = c.get("principal");
    const asked = parseRange(c.req.header("range"));
    const content = await openVolume(c.env, volumeId).content({ environment }, c.req.valid("query").path, asked);
    const { status, headers } = fileHead(content);
    if (c.req.method === "HEAD") return new Response(null, { status, headers });
    return new Response(await streamPieces(new PackStore(c.env.SNAPSHOTS, volumeId), content.pieces), {
      status,
      headers,
    });
  });

  api.openapi(statRoute, async (c) => {
    const { environment } = c.get("principal");
    const volume = openVolume(c.env, c.req.valid("param").volume_id);
    return c.json(await volume.stat({ environment }, c.req.valid("query").path), 200);
  });

  api.openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const { environment } = c.get("principal");
    const volume = openVolume(c.env, c.req.valid("param").volume_id);
    const list = await volume.list({ environment }, query.path, listRequestOf(query));
    return c.json(pageOf(list), 200);
  });
}
