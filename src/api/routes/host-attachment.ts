import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import type { ApiEnv } from "../env.ts";
import { requireHostSignature } from "../host-signature.ts";
import { openSocket, requireUpgrade } from "../open-socket.ts";
import { problem } from "../responses.ts";

const route = createRoute({
  method: "get",
  path: "/hosts/{host_id}/attachments/{sandbox_id}/{attachment_id}",
  operationId: "attachHost",
  tags: ["Hosts"],
  summary: "Dial Back (WebSocket)",
  description: "The socket that a host opens when a sandbox's object has asked it to attach to a process.",
  // No API key: the host's signature stands in for it.
  security: [],
  middleware: requireHostSignature,
  request: { params: z.object({ host_id: z.string(), sandbox_id: z.string(), attachment_id: z.string() }) },
  responses: { 101: { description: "The socket is open." }, ...problem },
});

export function registerHostAttachment(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    requireUpgrade(c.req.raw);
    const { host_id: hostId, sandbox_id, attachment_id: attachmentId } = c.req.valid("param");
    // Whether that host runs the sandbox, and was asked for this, is known to the object.
    return openSocket(c.env, sandbox_id, { kind: "attachment", hostId, attachmentId }, undefined);
  });
}
