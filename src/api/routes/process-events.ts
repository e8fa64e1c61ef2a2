import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { ApiError } from "../../contract/errors.ts";
import { parseCursor, type Cursor } from "../../contract/events.ts";
import { bytesResponse } from "../bytes-response.ts";
import type { ApiEnv } from "../env.ts";
import { EVENT_STREAM } from "../event-stream.ts";
import { openOrRecall } from "../open-source.ts";
import { processIdOf, ProcessParamsSchema } from "../process-id.ts";
import { problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";

const CURSOR = "The `id` of the last event that arrived: the stream goes on behind it.";

const route = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/processes/{process_id}/events",
  operationId: "readProcessEvents",
  tags: ["Execution"],
  summary: "Read Process Events",
  description:
    "The output of the process and its end as server-sent events: `stdout` and `stderr` with `{offset, data}`, data in " +
    "base64, then `exit`. `error`, with a problem, is the last where the output is no longer kept. A stream that ends " +
    "without either was cut: resume it.",
  security: requires("read"),
  request: {
    params: ProcessParamsSchema,
    headers: z.object({ "Last-Event-ID": z.string().optional().meta({ description: CURSOR }) }),
    query: z.strictObject({
      last_event_id: z
        .string()
        .optional()
        .meta({ description: `${CURSOR} The header goes before it.` }),
    }),
  },
  responses: {
    200: { description: "The events.", content: { "text/event-stream": { schema: z.string() } } },
    ...problem,
  },
});

export function registerProcessEvents(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const { sandbox_id, process_id } = c.req.valid("param");
    const from = cursorOf(c.req.header("last-event-id"), c.req.valid("query").last_event_id);
    const processId = processIdOf(process_id);
    const sandbox = openSandbox(c.env, sandbox_id);
    const scope = c.get("principal");
    const body = await openOrRecall(
      await sandbox.events(scope, processId, from),
      (failure) => sandbox.recallEvents(scope, processId, from, failure),
      c.req.raw.signal,
    );
    return bytesResponse(body, c.req.method === "HEAD", EVENT_STREAM);
  });
}

/** A browser that reconnects sends the header beside the query that it began with. */
function cursorOf(header: string | undefined, query: string | undefined): Cursor {
  const text = header ?? query;
  if (text === undefined) return { stdout: 0, stderr: 0 };
  const cursor = parseCursor(text);
  if (cursor) return cursor;
  const path = header === undefined ? "last_event_id" : "Last-Event-ID";
  throw new ApiError("invalid_request", {
    detail: "The last event id is not one that an event stream has given.",
    errors: [{ path, message: "must be the id of an event" }],
  });
}
