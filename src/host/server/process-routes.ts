import { z } from "zod";
import { AttachSpecSchema, OffsetSchema } from "../../contract/attach.ts";
import { ApiError } from "../../contract/errors.ts";
import { ExecSpecSchema } from "../../contract/host-protocol.ts";
import { SignalNameSchema, TerminalSizeSchema, type OutputStream } from "../../contract/process.ts";
import { processEvents } from "../../process/process-events.ts";
import { toBase64 } from "../base64.ts";
import { sendEvents } from "./event-stream.ts";
import { FlagSchema, readJson, valid } from "./request.ts";
import { sendChunks, sendJson, sendNothing } from "./respond.ts";
import type { Call, Handler } from "./route.ts";

const WaitQuerySchema = z.object({ wait_ms: z.coerce.number().int().min(0).max(600_000).default(0) });
const OutputQuerySchema = z.object({ offset: OffsetSchema.default(0), follow: FlagSchema.optional() });
const EventsQuerySchema = z.object({ stdout: OffsetSchema.default(0), stderr: OffsetSchema.default(0) });
const StdinQuerySchema = z.object({ offset: OffsetSchema.optional(), eof: FlagSchema.optional() });
const SignalBodySchema = z.strictObject({ signal: SignalNameSchema });

const query = <Schema extends z.ZodType>(call: Call, schema: Schema) => valid(schema, Object.fromEntries(call.query));

export const exec: Handler = async (call, sandboxId) => {
  const { wait_ms: waitMs } = query(call, WaitQuerySchema);
  const spec = await readJson(call.request, ExecSpecSchema);
  if (spec.process_id === "main") throw new ApiError("invalid_request", { detail: "`main` is the entrypoint." });
  await call.host.containers.running(sandboxId!);
  const processes = await call.host.containers.processes(sandboxId!);
  sendJson(call.response, await processes.exec(spec, waitMs, call.signal));
};

export const listProcesses: Handler = async (call, sandboxId) => {
  sendJson(call.response, (await call.host.containers.processes(sandboxId!)).list());
};

export const getProcess: Handler = async (call, sandboxId, processId) => {
  const processes = await call.host.containers.processes(sandboxId!);
  sendJson(call.response, await processes.status(processId!, query(call, WaitQuerySchema).wait_ms, call.signal));
};

export const signalProcess: Handler = async (call, sandboxId, processId) => {
  const { signal } = await readJson(call.request, SignalBodySchema);
  const processes = await call.host.containers.processes(sandboxId!);
  await (await processes.get(processId!)).signal(signal);
  sendNothing(call.response);
};

export const resizeProcess: Handler = async (call, sandboxId, processId) => {
  const size = await readJson(call.request, TerminalSizeSchema);
  await (await call.host.containers.processes(sandboxId!)).resize(processId!, size);
  sendNothing(call.response);
};

export const readOutput =
  (stream: OutputStream): Handler =>
  async (call, sandboxId, processId) => {
    const { host, response, signal } = call;
    const { offset, follow = false } = query(call, OutputQuerySchema);
    const process = await (await host.containers.processes(sandboxId!)).get(processId!);
    const reader = process.logs[stream].read(offset, follow);
    const cut = () => reader.close(true);
    signal.addEventListener("abort", cut);
    try {
      response.writeHead(200, { "content-type": "application/octet-stream", "cache-control": "no-store" });
      // Whoever follows learns that it does, before there is a first byte.
      response.flushHeaders();
      await sendChunks(response, () => reader.next());
    } finally {
      signal.removeEventListener("abort", cut);
      reader.close();
    }
  };

export const readEvents: Handler = async (call, sandboxId, processId) => {
  const from = query(call, EventsQuerySchema);
  const process = await (await call.host.containers.processes(sandboxId!)).get(processId!);
  await sendEvents(call, processEvents(process, from, toBase64));
};

export const writeStdin: Handler = async (call, sandboxId, processId) => {
  const { offset, eof = false } = query(call, StdinQuerySchema);
  const { containers } = call.host;
  const process = await (await containers.processes(sandboxId!)).get(processId!);
  const { input } = process;
  if (!input) throw new ApiError(process.hasExited ? "process_ended" : "stdin_closed");
  const body = call.request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  sendJson(call.response, await containers.use(sandboxId!, () => input.write(body, { offset, eof })));
};

export const attachProcess: Handler = async (call, sandboxId, processId) => {
  const spec = await readJson(call.request, AttachSpecSchema);
  const process = await (await call.host.containers.processes(sandboxId!)).get(processId!);
  await call.host.attachments.open(sandboxId!, process, spec);
  sendNothing(call.response);
};
