import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { DirectoryRequestSchema, FileInfoSchema, FileQuerySchema, MoveRequestSchema } from "../../contract/file.ts";
import { ApiError } from "../../contract/errors.ts";
import { IdempotencyHeadersSchema, pageSchema } from "../../contract/list.ts";
import type { ApiEnv } from "../env.ts";
import { FileListQuerySchema, listRequestOf, pageOf } from "../file-pages.ts";
import { FlagSchema } from "../flag.ts";
import { idempotent } from "../idempotent.ts";
import { makeDirectory } from "../make-directory.ts";
import { isRoot, liesBelow } from "../plain-path.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const { path: PathSchema } = FileQuerySchema.shape;

const statRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/files/stat",
  operationId: "statSandboxFile",
  tags: ["Filesystem"],
  summary: "Stat Sandbox File",
  description: "What there is at the path: of a link the link itself, not what it leads to.",
  security: requires("read"),
  request: { params: SandboxParamsSchema, query: z.strictObject(FileQuerySchema.shape) },
  responses: { 200: json("What there is.", FileInfoSchema), ...problem },
});

const listRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/files/list",
  operationId: "listSandboxFiles",
  tags: ["Filesystem"],
  summary: "List Sandbox Files",
  description:
    "What the directory holds, in the order of the paths. Links in it are shown, not followed. What changes while the pages are " +
    "read may be in them or not; everything else is in them once.",
  security: requires("read"),
  request: { params: SandboxParamsSchema, query: FileListQuerySchema },
  responses: { 200: json("A page of files.", pageSchema(FileInfoSchema)), ...problem },
});

const directoryRoute = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/files/directories",
  operationId: "createSandboxDirectory",
  tags: ["Filesystem"],
  summary: "Create Sandbox Directory",
  description:
    "Make a directory. 409 `file_exists` where something is, unless it is a directory and `parents` is true.",
  security: requires("write"),
  request: {
    params: SandboxParamsSchema,
    headers: IdempotencyHeadersSchema,
    body: jsonBody(DirectoryRequestSchema),
  },
  responses: { 201: json("The directory.", FileInfoSchema), ...problem },
});

const moveRoute = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/files/move",
  operationId: "moveSandboxFile",
  tags: ["Filesystem"],
  summary: "Move Sandbox File",
  description:
    "Give a file or a directory another path. A file takes the place of a file, a directory that of an empty directory; " +
    "nothing else is replaced.",
  security: requires("write"),
  request: { params: SandboxParamsSchema, body: jsonBody(MoveRequestSchema) },
  responses: { 204: { description: "Moved." }, ...problem },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/sandboxes/{sandbox_id}/files",
  operationId: "deleteSandboxFile",
  tags: ["Filesystem"],
  summary: "Delete Sandbox File",
  description: "Remove what is at the path: of a link the link itself.",
  security: requires("write"),
  request: {
    params: SandboxParamsSchema,
    query: z.strictObject({
      path: PathSchema.refine((path) => !isRoot(path), "must not be `/`"),
      recursive: FlagSchema.default(false).meta({
        description:
          "Removes a directory with all that is in it; without, 409 `directory_not_empty` where it holds anything.",
      }),
    }),
  },
  responses: { 204: { description: "Removed." }, ...problem },
});

export function registerFileTree(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(statRoute, async (c) => {
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    return c.json(await sandbox.stat(c.get("principal"), c.req.valid("query").path), 200);
  });

  api.openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const list = await sandbox.listFiles(c.get("principal"), query.path, listRequestOf(query));
    return c.json(pageOf(list), 200);
  });

  api.openapi(directoryRoute, async (c) => {
    const request = c.req.valid("json");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const scope = c.get("principal");
    const newPlan = () => ({});
    const made = await idempotent(c, request, newPlan, (_, isFirst) => makeDirectory(sandbox, scope, request, isFirst));
    return c.json(made, 201);
  });

  api.openapi(moveRoute, async (c) => {
    const { from, to } = c.req.valid("json");
    if (liesBelow(to, from)) throw intoItself();
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    await sandbox.moveFile(c.get("principal"), from, to);
    return c.body(null, 204);
  });

  api.openapi(deleteRoute, async (c) => {
    const { path, recursive } = c.req.valid("query");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    await sandbox.removeFile(c.get("principal"), path, recursive);
    return c.body(null, 204);
  });
}

const intoItself = () =>
  new ApiError("invalid_request", {
    detail: "Nothing can be moved into itself.",
    errors: [{ path: "to", message: "must not lie below `from`" }],
  });
