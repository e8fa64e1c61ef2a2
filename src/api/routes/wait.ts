import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { WaitSchema } from "../../contract/fields.ts";
import { isLive, SandboxSchema, WAIT_FOR } from "../../contract/sandbox.ts";
import type { ApiEnv } from "../env.ts";
import { json, problem } from "../responses.ts";
import { requires } from "../route-table.ts";
import { openSandbox } from "../sandbox-client.ts";
import { SandboxParamsSchema } from "./sandboxes.ts";

const DEFAULT_WAIT_S = 60;
/** The object is asked again and again, so that no single call of it takes long. */
const SLICE_MS = 25_000;

const route = createRoute({
  method: "get",
  path: "/sandboxes/{sandbox_id}/wait",
  operationId: "waitForSandbox",
  tags: ["Sandboxes"],
  summary: "Wait For Sandbox",
  description:
    "Answers with the sandbox once it is `ready`, or has ended, or the time is up: its `state` tells which. One that has " +
    "ended is not waited for. Waiting is no activity.",
  security: requires("read"),
  request: {
    params: SandboxParamsSchema,
    query: z.strictObject({
      until: z.enum(WAIT_FOR).default("ended"),
      timeout: WaitSchema.default(DEFAULT_WAIT_S).meta({ description: "Seconds to wait." }),
    }),
  },
  responses: { 200: json("The Sandbox.", SandboxSchema), ...problem },
});

export function registerWait(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(route, async (c) => {
    const { until, timeout } = c.req.valid("query");
    const sandbox = openSandbox(c.env, c.req.valid("param").sandbox_id);
    const scope = c.get("principal");
    const { signal } = c.req.raw;
    const giveUpAt = Date.now() + timeout * 1000;
    for (;;) {
      const leftMs = Math.max(0, giveUpAt - Date.now());
      const answer = await sandbox.wait(scope, until, Math.min(leftMs, SLICE_MS));
      const isReached = !isLive(answer.state) || (until === "ready" && answer.state === "ready");
      if (isReached || leftMs <= SLICE_MS || signal.aborted) return c.json(answer, 200);
    }
  });
}
