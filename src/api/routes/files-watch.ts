import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { FileQuerySchema } from "../../contract/file.ts";
import { bytesResponse } from "../bytes-response.ts";
import type { ApiEnv } from "../env.ts";
import { EVENT_STREAM } from "../event-stream.ts";
import { FlagSchema } from "../flag.ts";
import { openOrRecall } from "../open-source.ts";
import { problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const route = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/files/watch",
  operationId: "watchSandboxFiles",
  tags: ["Filesystem"],
  summary: "Watch Sandbox Files",
  description:
    "What happens to the path and, of a directory, to what is in it, as server-sent events. `ready` is the first: what happens " +
    "from then on is told. `create`, `modify` and `remove` have `{path}`, `rename` `{path, from}`. `overflow`: more happened than " +
    "could be told of, list anew. The stream ends when what is watched is gone, and with the sandbox. One that ends without a " +
    "`remove` of it was cut: watch again, and list anew.",
  security: requires("read"),
  request: {
    params: SandboxParamsSchema,
    query: z.strictObject({
      ...FileQuerySchema.shape,
      recursive: FlagSchema.default(false).meta({
        description: "Watches all that is below, too, also what comes later.",
      }),
    }),
  },
  responses: {
    200: { description: "The events.", content: { "text/event-stream": { schema: z.string() } } },
    ...problem,
  },
});

export function registerFileWatch(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const { path, recursive } = c.req.valid("query");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const scope = c.get("principal");
    const body = await openOrRecall(
      await sandbox.watchFiles(scope, path, recursive),
      (failure) => sandbox.watchFiles(scope, path, recursive, failure),
      c.req.raw.signal,
    );
    return bytesResponse(body, c.req.method === "HEAD", EVENT_STREAM);
  });
}
