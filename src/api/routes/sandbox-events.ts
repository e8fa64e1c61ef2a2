import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { formatEvent } from "../../contract/events.ts";
import { wholeNumber } from "../../contract/fields.ts";
import type { EventBatch } from "../../sandbox/waiting.ts";
import { bytesResponse } from "../bytes-response.ts";
import type { ApiEnv } from "../env.ts";
import { EVENT_STREAM, eventStream } from "../event-stream.ts";
import { FlagSchema } from "../flag.ts";
import { problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

/** The platform lets one request ask so often, and a few times more: then the client resumes. */
const MAX_ROUNDS = 900;
/** So often comes a comment when nothing else does. */
const SILENCE_MS = 15_000;

const CURSOR = "The `id` of the last event that arrived: the stream goes on behind it.";
const SeqSchema = wholeNumber(0);

const route = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/events",
  operationId: "readSandboxEvents",
  tags: ["Sandboxes"],
  summary: "Read Sandbox Events",
  description:
    "Everything that happened to the sandbox as server-sent events, from its creation on, and what happens from now on: each " +
    "state that it comes to, with the time and the reason, and each `updated`. `data` is a SandboxEvent. The stream ends with " +
    "the end of the sandbox, and is kept as long as the sandbox can be read. One that ends before was cut: resume it.",
  security: requires("read"),
  request: {
    params: SandboxParamsSchema,
    headers: z.object({ "Last-Event-ID": SeqSchema.optional().meta({ description: CURSOR }) }),
    query: z.strictObject({
      last_event_id: SeqSchema.optional().meta({ description: `${CURSOR} The header goes before it.` }),
      follow: FlagSchema.default(true).meta({ description: "`false` ends the stream behind what there is." }),
    }),
  },
  responses: {
    200: { description: "The events.", content: { "text/event-stream": { schema: z.string() } } },
    ...problem,
  },
});

export function registerSandboxEvents(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const { last_event_id, follow } = c.req.valid("query");
    const from = c.req.valid("header")["Last-Event-ID"] ?? last_event_id ?? 0;
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const scope = c.get("principal");
    // What is the matter is told before the stream begins.
    const first = await sandbox.eventsAfter(scope, from, 0);
    async function* events() {
      let seq = from;
      let batch: EventBatch = first;
      for (let round = 0; round < MAX_ROUNDS; round += 1, batch = await sandbox.eventsAfter(scope, seq, SILENCE_MS)) {
        for (const { seq: id, event } of batch.events) {
          yield formatEvent(event.type, event, id);
          seq = id;
        }
        if (batch.isOver || !follow) return;
        if (batch.events.length === 0 && batch !== first) yield ":\n\n";
      }
    }
    return bytesResponse(eventStream(events(), c.req.raw.signal), c.req.method === "HEAD", EVENT_STREAM) as never;
  });
}
