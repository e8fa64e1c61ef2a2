import { z } from "zod";
import { ApiError } from "../../contract/errors.ts";
import { ExecSpecSchema } from "../../contract/host-protocol.ts";
import { SignalNameSchema, type OutputStream } from "../../contract/process.ts";
import { readJson, valid } from "./request.ts";
import { sendChunks, sendJson, sendNothing } from "./respond.ts";
import type { Call, Handler } from "./route.ts";

const WaitQuerySchema = z.object({ wait_ms: z.coerce.number().int().min(0).max(600_000).default(0) });
const OutputQuerySchema = z.object({
  offset: z.coerce.number().int().min(0).default(0),
  follow: z.enum(["true", "false", "1", "0", ""]).default("false"),
});
const SignalBodySchema = z.strictObject({ signal: SignalNameSchema });

const waitMs = (call: Call) => valid(WaitQuerySchema, Object.fromEntries(call.query)).wait_ms;

export const exec: Handler = async (call, sandboxId) => {
  const wait = waitMs(call);
  const spec = await readJson(call.request, ExecSpecSchema);
  if (spec.process_id === "main") throw new ApiError("invalid_request", { detail: "`main` is the entrypoint." });
  await call.host.containers.running(sandboxId!);
  const processes = await call.host.containers.processes(sandboxId!);
  sendJson(call.response, await processes.exec(spec, wait, call.signal));
};

export const listProcesses: Handler = async (call, sandboxId) => {
  sendJson(call.response, (await call.host.containers.processes(sandboxId!)).list());
};

export const getProcess: Handler = async (call, sandboxId, processId) => {
  const processes = await call.host.containers.processes(sandboxId!);
  sendJson(call.response, await processes.status(processId!, waitMs(call), call.signal));
};

export const signalProcess: Handler = async (call, sandboxId, processId) => {
  const { signal } = await readJson(call.request, SignalBodySchema);
  await (await call.host.containers.processes(sandboxId!)).signal(processId!, signal);
  sendNothing(call.response);
};

export const readOutput =
  (stream: OutputStream): Handler =>
  async ({ host, response, query, signal }, sandboxId, processId) => {
    const { offset, follow } = valid(OutputQuerySchema, Object.fromEntries(query));
    const isFollowed = follow !== "false" && follow !== "0";
    const processes = await host.containers.processes(sandboxId!);
    const reader = processes.read(processId!, stream, offset, isFollowed);
    const close = () => reader.close();
    signal.addEventListener("abort", close);
    try {
      response.writeHead(200, { "content-type": "application/octet-stream", "cache-control": "no-store" });
      // Whoever follows learns that it does, before there is a first byte.
      response.flushHeaders();
      await sendChunks(response, () => reader.next());
    } finally {
      signal.removeEventListener("abort", close);
      close();
    }
  };
