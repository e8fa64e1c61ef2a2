import type { BodyLength, Upload } from "../backends/backend.ts";
import type { ByteTarget } from "../contract/byte-source.ts";
import { asApiError } from "../contract/errors.ts";
import { errorOfHostAnswer, hostAway } from "../contract/host-answer.ts";
import { HOST_FAILURES } from "../sandbox/process-output.ts";
import type { SandboxRpc, Scope } from "../sandbox/rpc.ts";
import { isWorthSocket } from "./plain-socket.ts";
import { sentBody } from "./sent-body.ts";
import { putOverSocket } from "./socket-put.ts";

/** Up to here a body passes the sandbox's object, which needs no call of its own then. */
const SMALL_BODY_BYTES = 65_536;

/** Hands the body of a request to the sandbox; `describe` says what it is to become. One on a host gets a large one without its object. */
export async function upload(
  sandbox: SandboxRpc,
  scope: Scope,
  request: Request,
  describe: (length: BodyLength) => Upload,
): Promise<void> {
  const { body, length } = sentBody(request);
  const what = describe(length);
  const isSmall = length.size !== undefined && length.size <= SMALL_BODY_BYTES;
  const target = isSmall ? undefined : await sandbox.uploadTarget(scope, what);
  if (!target) return throughObject(sandbox, scope, what, body);
  try {
    await send(target, body, length.size, request.signal);
  } catch (error) {
    const code = asApiError(error)?.code;
    // The body is used up. The object finds out what became of the host, and may know better what the failure means.
    if (code && HOST_FAILURES.includes(code)) await sandbox.uploadTarget(scope, what, code);
    throw error;
  }
}

function throughObject(
  sandbox: SandboxRpc,
  scope: Scope,
  { what, path, options }: Upload,
  body: ReadableStream<Uint8Array>,
): Promise<void> {
  if (what === "archive") return sandbox.writeArchive(scope, path, body, options);
  return sandbox.writeFile(scope, path, body, options);
}

async function send(
  target: ByteTarget,
  body: ReadableStream<Uint8Array>,
  size: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const response = await put(target, body, size, signal).catch((cause: unknown) => {
    throw hostAway(cause);
  });
  const error = await errorOfHostAnswer(response);
  if (error) throw error;
  await response.body?.cancel();
}

async function put(
  target: ByteTarget,
  body: ReadableStream<Uint8Array>,
  size: number | undefined,
  signal: AbortSignal,
): Promise<Response> {
  if (size !== undefined && isWorthSocket(target.url, size)) {
    const answer = await putOverSocket(target, body, size, signal);
    if (answer) return answer;
  }
  return fetch(target.url, { method: "PUT", headers: target.headers, body, signal, redirect: "manual" });
}
