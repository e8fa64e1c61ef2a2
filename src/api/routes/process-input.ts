import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { OffsetSchema } from "../../contract/attach.ts";
import { StdinStateSchema, ResizeRequestSchema } from "../../contract/process.ts";
import type { ApiEnv } from "../env.ts";
import { FlagSchema } from "../flag.ts";
import { processIdOf, ProcessParamsSchema } from "../process-id.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { writeStdin } from "../write-stdin.ts";

const stdinRoute = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/processes/{process_id}/stdin",
  operationId: "writeProcessStdin",
  tags: ["Execution"],
  summary: "Write Process Stdin",
  description:
    "Give the process input. With `offset`, where in its whole input the body begins, it is safe to repeat: what the " +
    "process was given already is not written again. Answers once all is with the process.",
  security: requires("write"),
  request: {
    params: ProcessParamsSchema,
    query: z.strictObject({
      offset: OffsetSchema.optional().meta({
        type: "integer",
        description: "Left out, the body goes behind what the process was given so far.",
      }),
      eof: FlagSchema.optional().meta({ description: "Ends the input behind the body." }),
    }),
    body: {
      required: false,
      content: { "application/octet-stream": { schema: z.string().meta({ format: "binary" }) } },
    },
  },
  responses: { 200: json("How much the process was given in all.", StdinStateSchema), ...problem },
});

const resizeRoute = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/processes/{process_id}/resize",
  operationId: "resizeProcess",
  tags: ["Execution"],
  summary: "Resize Process Terminal",
  description: "Give the terminal of the process another size. 409 `not_a_terminal` without one.",
  security: requires("write"),
  request: { params: ProcessParamsSchema, body: jsonBody(ResizeRequestSchema) },
  responses: { 204: { description: "Terminal resized." }, ...problem },
});

export function registerProcessInput(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(stdinRoute, async (c) => {
    const { sandbox_id, process_id } = c.req.valid("param");
    const { offset, eof = false } = c.req.valid("query");
    const sandbox = openSandbox(c.env, sandbox_id);
    const processId = processIdOf(process_id);
    const write = (body: ReadableStream<Uint8Array>, options: { offset?: number | undefined; eof: boolean }) =>
      sandbox.writeStdin(c.get("principal"), processId, body, options);
    return c.json(await writeStdin(write, c.req.raw.body, { offset, eof }), 200);
  });

  api.openapi(resizeRoute, async (c) => {
    const { sandbox_id, process_id } = c.req.valid("param");
    const sandbox = openSandbox(c.env, sandbox_id);
    await sandbox.resize(c.get("principal"), processIdOf(process_id), c.req.valid("json"));
    return c.body(null, 204);
  });
}
