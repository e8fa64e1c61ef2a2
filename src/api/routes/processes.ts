import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { WaitSchema } from "../../contract/fields.ts";
import { ListQueryShape } from "../../contract/list.ts";
import { ContainerProcessSchema, ProcessPageSchema, SignalNameSchema } from "../../contract/process.ts";
import type { ApiEnv } from "../env.ts";
import { processIdOf, ProcessParamsSchema } from "../process-id.ts";
import { json, jsonBody, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const listRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/processes",
  operationId: "listProcesses",
  tags: ["Execution"],
  summary: "List Processes",
  description: "The entrypoint, as `main`, and the processes that exec started, oldest first, ended ones included.",
  security: requires("read"),
  request: { params: SandboxParamsSchema, query: z.strictObject(ListQueryShape) },
  responses: { 200: json("A page of processes.", ProcessPageSchema), ...problem },
});

const getRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/processes/{process_id}",
  operationId: "getProcess",
  tags: ["Execution"],
  summary: "Get Process",
  description: "One process; with `wait` once it has ended or the time is up.",
  security: requires("read"),
  request: {
    params: ProcessParamsSchema,
    query: z.strictObject({
      wait: WaitSchema.optional().meta({ description: "Seconds to wait for the end of the process." }),
    }),
  },
  responses: { 200: json("The process.", ContainerProcessSchema), ...problem },
});

const signalRoute = createRoute({
  method: "post",
  path: "/sandboxes/{sandbox_id}/processes/{process_id}/signal",
  operationId: "signalProcess",
  tags: ["Execution"],
  summary: "Signal Process",
  description:
    "Send a signal to the process's group: to it and to what it started, but for what made a session of its own.",
  security: requires("write"),
  request: {
    params: ProcessParamsSchema,
    body: jsonBody(z.strictObject({ signal: SignalNameSchema }).meta({ id: "SignalRequest" })),
  },
  responses: { 204: { description: "Signal sent." }, ...problem },
});

const killRoute = createRoute({
  method: "delete",
  path: "/sandboxes/{sandbox_id}/processes/{process_id}",
  operationId: "killProcess",
  tags: ["Execution"],
  summary: "Kill Process",
  description:
    "Send SIGKILL to the process's group: to it and to what it started, but for what made a session of its own.",
  security: requires("write"),
  request: { params: ProcessParamsSchema },
  responses: { 204: { description: "Process killed." }, ...problem },
});

export function registerProcesses(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(listRoute, async (c) => {
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    return c.json(await sandbox.listProcesses(c.get("principal"), c.req.valid("query")), 200);
  });

  api.openapi(getRoute, async (c) => {
    const { sandbox_id, process_id } = c.req.valid("param");
    const { wait = 0 } = c.req.valid("query");
    const sandbox = openSandbox(c.env, sandbox_id);
    const waitMs = Math.ceil(wait * 1000);
    return c.json(await sandbox.getProcess(c.get("principal"), processIdOf(process_id), waitMs), 200);
  });

  api.openapi(signalRoute, async (c) => {
    const { sandbox_id, process_id } = c.req.valid("param");
    const { signal } = c.req.valid("json");
    await openSandbox(c.env, sandbox_id).signal(c.get("principal"), processIdOf(process_id), signal);
    return c.body(null, 204);
  });

  api.openapi(killRoute, async (c) => {
    const { sandbox_id, process_id } = c.req.valid("param");
    await openSandbox(c.env, sandbox_id).signal(c.get("principal"), processIdOf(process_id), "SIGKILL");
    return c.body(null, 204);
  });
}
