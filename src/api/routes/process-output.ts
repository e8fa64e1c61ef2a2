import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { OffsetSchema } from "../../contract/attach.ts";
import { OUTPUT_STREAMS, type OutputStream } from "../../contract/process.ts";
import { bytesResponse, SANDBOX_CONTENT } from "../bytes-response.ts";
import type { ApiEnv } from "../env.ts";
import { FlagSchema } from "../flag.ts";
import { openOrRecall } from "../open-source.ts";
import { processIdOf, ProcessParamsSchema } from "../process-id.ts";
import { problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";

const outputRoute = (stream: OutputStream) =>
  createRoute({
    method: "get",
    path: `/sandboxes/{sandbox_id}/processes/{process_id}/${stream}`,
    operationId: stream === "stdout" ? "readProcessStdout" : "readProcessStderr",
    tags: ["Execution"],
    summary: stream === "stdout" ? "Read Process Stdout" : "Read Process Stderr",
    description:
      `The bytes that the process wrote to ${stream}, from \`offset\`: what there is, or with \`follow\` all until the ` +
      "stream ends. After a cut, go on at the offset that arrived. 410 `output_expired` with `oldest_offset` where the " +
      "bytes are no longer kept.",
    security: requires("read"),
    request: {
      params: ProcessParamsSchema,
      query: z.strictObject({
        offset: OffsetSchema.optional().meta({ type: "integer", description: "Where to begin; 0 if left out." }),
        follow: FlagSchema.optional().meta({ description: "Goes on until the stream ends." }),
      }),
    },
    responses: {
      200: {
        description: "The output.",
        content: { "application/octet-stream": { schema: z.string().meta({ format: "binary" }) } },
      },
      ...problem,
    },
  });

export function registerProcessOutput(api: OpenAPIHono<ApiEnv>): void {
  for (const stream of OUTPUT_STREAMS) {
    api.openapi(outputRoute(stream), async (c) => {
      const { sandbox_id, process_id } = c.req.valid("param");
      const { offset = 0, follow = false } = c.req.valid("query");
      const isHead = c.req.method === "HEAD";
      const sandbox = openSandbox(c.env, sandbox_id);
      const scope = c.get("principal");
      const request = { processId: processIdOf(process_id), stream, offset, follow: follow && !isHead };
      const body = await openOrRecall(
        await sandbox.output(scope, request),
        (failure) => sandbox.recallOutput(scope, request, failure),
        c.req.raw.signal,
      );
      return bytesResponse(body, isHead, { ...SANDBOX_CONTENT, "cache-control": "no-store" });
    });
  }
}
