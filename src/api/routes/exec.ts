import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { ApiError, type ErrorCode } from "../../contract/errors.ts";
import { formatEvent, type Cursor } from "../../contract/events.ts";
import { WaitSchema } from "../../contract/fields.ts";
import { IdempotencyHeadersSchema } from "../../contract/list.ts";
import { ContainerProcessSchema, ExecRequestSchema, type ContainerProcess } from "../../contract/process.ts";
import type { ExecAnswer } from "../../sandbox/rpc.ts";
import type { ApiEnv } from "../env.ts";
import { EVENT_STREAM, eventsAfter, wantsEvents } from "../event-stream.ts";
import { openOrRecall } from "../open-source.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const START: Cursor = { stdout: 0, stderr: 0 };

const ENCODINGS = ["utf8", "base64"] as const;
type Encoding = (typeof ENCODINGS)[number];

const route = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/exec",
  operationId: "execSandbox",
  tags: ["Execution"],
  summary: "Execute Sandbox Command",
  description:
    "Execute a command inside the sandbox. Answers once the process has started; with `wait` once it has ended, and " +
    "then with its output, or when the time is up. With `Accept: text/event-stream` the answer is the event `process` " +
    "and then the events of the process. With an `Idempotency-Key` the same request again finds the process that the first " +
    "one started, whatever became of its answer.",
  security: requires("write"),
  request: {
    params: SandboxParamsSchema,
    headers: IdempotencyHeadersSchema,
    query: z.strictObject({
      wait: WaitSchema.optional().meta({ description: "Seconds to wait for the end of the process." }),
      encoding: z
        .enum(ENCODINGS)
        .optional()
        .meta({ description: "How `stdout` and `stderr` are answered; `utf8` if left out." }),
    }),
    body: jsonBody(ExecRequestSchema),
  },
  responses: { 200: json("Process started.", ContainerProcessSchema), ...problem },
});

export function registerExec(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const { wait = 0, encoding = "utf8" } = c.req.valid("query");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const scope = c.get("principal");
    const key = c.req.header("idempotency-key");
    if (wantsEvents(c.req.header("accept"))) {
      refuseWithEvents(c.req.valid("query"));
      const { process, events } = await sandbox.execStreamed(scope, c.req.valid("json"), key);
      const recall = (failure: ErrorCode) => sandbox.recallEvents(scope, process.process_id, START, failure);
      const open = () => openOrRecall(events, recall, c.req.raw.signal);
      // The contract knows this answer as JSON only, and so do its types.
      return new Response(eventsAfter(formatEvent("process", process), open), { headers: EVENT_STREAM }) as never;
    }
    const answer = await sandbox.exec(scope, c.req.valid("json"), Math.ceil(wait * 1000), key);
    return c.json(withOutput(answer, encoding), 200);
  });
}

/** What is for the answer that waits has no meaning where events come as they happen. */
function refuseWithEvents(query: object): void {
  const errors = Object.keys(query).map((path) => ({ path, message: "does not go with `Accept: text/event-stream`" }));
  if (errors.length > 0) throw new ApiError("invalid_request", { errors });
}

function withOutput({ process, output }: ExecAnswer, encoding: Encoding): ContainerProcess {
  if (!output) return process;
  if (encoding === "base64") return { ...process, ...output };
  return { ...process, ...output, stdout: decode(output.stdout), stderr: decode(output.stderr) };
}

/** The text of base64 bytes. What is no UTF-8 becomes U+FFFD; a byte order mark stays. */
function decode(base64: string): string {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes);
}
