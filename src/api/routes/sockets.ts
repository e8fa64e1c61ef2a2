import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { ATTACH_PROTOCOL, OffsetSchema } from "../../contract/attach.ts";
import type { ApiEnv } from "../env.ts";
import { FlagSchema } from "../flag.ts";
import { openSocket, requireUpgrade } from "../open-socket.ts";
import { processIdOf, ProcessParamsSchema } from "../process-id.ts";
import { problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { selectProtocol } from "../socket-protocols.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const FRAMING =
  `Kubernetes' remotecommand framing (${ATTACH_PROTOCOL}): the first byte of a binary message is the channel: 0 stdin, ` +
  "1 stdout, 2 stderr, 3 the status as JSON, 4 the terminal size, 255 closes a channel. A browser sends its key as the " +
  "subprotocol `base64url.bearer.authorization.k8s.io.<base64url(key)>`.";

const acks = FlagSchema.optional().meta({
  description: "The client acknowledges output on channel 5, `{stdout, stderr}`, and is sent no more than it takes.",
});

const attachRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/processes/{process_id}/attach",
  operationId: "attachProcess",
  tags: ["Execution"],
  summary: "Attach Process (WebSocket)",
  description: `A WebSocket to the process. ${FRAMING}`,
  security: requires("write"),
  request: {
    params: ProcessParamsSchema,
    query: z.strictObject({
      stdout_offset: OffsetSchema.optional().meta({ type: "integer", description: "0 if left out." }),
      stderr_offset: OffsetSchema.optional().meta({ type: "integer", description: "0 if left out." }),
      acks,
    }),
  },
  responses: { 101: { description: "The socket is open." }, ...problem },
});

const execRoute = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/exec",
  operationId: "execSandboxSocket",
  tags: ["Execution"],
  summary: "Execute Sandbox Command (WebSocket)",
  description:
    "A WebSocket whose first message, text, is the ExecRequest. It is answered with the ContainerProcess, also text, " +
    `and then the socket is as one that attached. ${FRAMING}`,
  security: requires("write"),
  request: { params: SandboxParamsSchema, query: z.strictObject({ acks }) },
  responses: { 101: { description: "The socket is open." }, ...problem },
});

export function registerSockets(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(attachRoute, async (c) => {
    requireUpgrade(c.req.raw);
    const protocol = selectProtocol(c.req.header("sec-websocket-protocol"));
    const { sandbox_id, process_id } = c.req.valid("param");
    const { stdout_offset: stdoutOffset = 0, stderr_offset: stderrOffset = 0, acks = false } = c.req.valid("query");
    const { environment } = c.get("principal");
    const processId = processIdOf(process_id);
    const call = { kind: "attach", environment, processId, stdoutOffset, stderrOffset, acks } as const;
    return openSocket(c.env, sandbox_id, call, protocol);
  });

  api.openapi(execRoute, async (c) => {
    requireUpgrade(c.req.raw);
    const protocol = selectProtocol(c.req.header("sec-websocket-protocol"));
    const { environment } = c.get("principal");
    const { acks = false } = c.req.valid("query");
    return openSocket(c.env, c.req.valid("param").sandbox_id, { kind: "exec", environment, acks }, protocol);
  });
}
