import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { FileQuerySchema, ModeSchema } from "../../contract/file.ts";
import type { FileAnswer } from "../../sandbox/rpc.ts";
import { parseRange } from "../../contract/byte-range.ts";
import { SANDBOX_CONTENT } from "../bytes-response.ts";
import type { ApiEnv } from "../env.ts";
import { problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { upload } from "../upload.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const bytes = { "application/octet-stream": { schema: z.string().meta({ format: "binary" }) } };

const readRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/files",
  operationId: "readSandboxFile",
  tags: ["Filesystem"],
  summary: "Read Sandbox File",
  description: "Read a file inside the sandbox at the given absolute path, or the one range of it that `Range` names.",
  security: requires("read"),
  request: { params: SandboxParamsSchema, query: z.strictObject(FileQuerySchema.shape) },
  responses: {
    200: { description: "File contents.", content: bytes },
    206: { description: "The range of the file.", content: bytes },
    ...problem,
  },
});

const writeRoute = createRoute({
  method: "put",
  path: "/sandboxes/{sandbox_id}/files",
  operationId: "writeSandboxFile",
  tags: ["Filesystem"],
  summary: "Write Sandbox File",
  description:
    "Write a file inside the sandbox at the given absolute path. Its parents are made; a write that is cut off changes nothing.",
  security: requires("write"),
  request: {
    params: SandboxParamsSchema,
    query: z.strictObject({
      ...FileQuerySchema.shape,
      mode: ModeSchema.optional().meta({ description: "Octal; a new file gets 644, an existing one keeps its own." }),
    }),
    body: { required: true, content: bytes },
  },
  responses: { 204: { description: "File written." }, ...problem },
});

export function registerFiles(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(readRoute, async (c) => {
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const range = parseRange(c.req.header("range"));
    const file = await sandbox.readFile(c.get("principal"), c.req.valid("query").path, range);
    return fileResponse(file, c.req.method === "HEAD");
  });

  api.openapi(writeRoute, async (c) => {
    const { path, mode } = c.req.valid("query");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    await upload(sandbox, c.get("principal"), c.req.raw, (length) => ({
      what: "file",
      path,
      options: { ...length, ...(mode !== undefined && { mode }) },
    }));
    return c.body(null, 204);
  });
}

/** What an answer says of a file before its bytes; and how many those are, where that is known. */
export function fileHead({ size, range }: Pick<FileAnswer, "size" | "range">) {
  const headers = new Headers(SANDBOX_CONTENT);
  if (size !== undefined) headers.set("accept-ranges", "bytes");
  if (range) headers.set("content-range", `bytes ${range.first}-${range.last}/${size ?? "*"}`);
  const status = range ? 206 : 200;
  const length = range ? range.last - range.first + 1 : size;
  if (length !== undefined) headers.set("content-length", String(length));
  return { status, headers, length };
}

/** The file as it streams. */
function fileResponse({ body, ...file }: FileAnswer, isHead: boolean): Response {
  const { status, headers, length } = fileHead(file);
  if (isHead) {
    void body.cancel().catch(() => undefined);
    return new Response(null, { status, headers });
  }
  // The runtime sends the length only of a stream that has it fixed; one that is cut off then breaks the answer.
  const known = length === undefined ? body : body.pipeThrough(new FixedLengthStream(length));
  return new Response(known, { status, headers });
}
