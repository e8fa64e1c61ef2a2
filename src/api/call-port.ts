import type { PortTarget } from "../contract/body-apart.ts";
import { ApiError, asApiError } from "../contract/errors.ts";
import { hostAway, problemInPlaceOf, REFUSED_HEADER, signatureRefused } from "../contract/host-answer.ts";
import { withCall, type PortCall } from "../sandbox/call.ts";
import { onwardOf } from "../sandbox/onward.ts";
import { HOST_FAILURES } from "../sandbox/process-output.ts";
import { fetchWithBodyApart } from "./body-apart.ts";
import { clientAddress } from "./client-address.ts";
import type { Env } from "./env.ts";
import { isWorthSocket } from "./plain-socket.ts";
import { fetchFromSandbox } from "./sandbox-client.ts";
import { contentLength } from "./sent-body.ts";
import { headersForApp } from "./tunnel-headers.ts";

/** What may reach an app twice. */
const SAFE_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/**
 * Asks the app on a port of a sandbox what the request asks. The sandbox's object says who may; bytes go from here to the host, without passing
 * it. Throws what stands in place of an answer.
 */
export async function callPort(
  request: Request,
  env: Env,
  { sandboxId, port }: { sandboxId: string; port: number },
): Promise<Response> {
  const { method, url, signal, body } = request;
  if (body && (method === "GET" || method === "HEAD"))
    throw new ApiError("invalid_request", { detail: `A tunnel passes no body with ${method}.` });
  const client = clientAddress(request, env);
  const known = headersForApp(request, client);
  const ask = async (more: Partial<PortCall> = {}, sent: ReadableStream | null = null) => {
    const headers = withCall(known, { kind: "port", port, client, ...more });
    // Of what it says of its body nothing is true of a head that comes alone.
    if (sent === null) for (const name of ["content-length", "transfer-encoding"]) headers.delete(name);
    const call = new Request(url, { method, headers, body: sent, signal, redirect: "manual" });
    return answered(await fetchFromSandbox(env, sandboxId, call));
  };
  // An answer to HEAD has no body to say in where the request goes on; nor has it bytes that should pass the object by.
  const first = await ask(method === "HEAD" ? { isThrough: true } : body ? { bodyFollows: true } : {});
  const onward = await onwardOf(first);
  if (!onward) return first;
  if (onward.kind === "object") return ask({ isThrough: true }, body);
  try {
    return await send(onward, request);
  } catch (error) {
    const code = asApiError(error)?.code;
    if (!code || !HOST_FAILURES.includes(code)) throw error;
    // The object finds out what became of the host, and may know better what the failure means.
    if (SAFE_METHODS.has(method)) return ask({ isThrough: true });
    await ask({ bodyFollows: true, failure: code });
    throw error;
  }
}

/** The answer, unless it is a problem in place of one. */
async function answered(answer: Response): Promise<Response> {
  const problem: ApiError | undefined = await problemInPlaceOf(answer);
  if (problem) throw problem;
  return answer;
}

async function send(target: PortTarget, request: Request): Promise<Response> {
  const answer = await answerOf(target, request).catch((cause: unknown) => {
    throw hostAway(cause);
  });
  if (answer.status !== 401 || !answer.headers.has(REFUSED_HEADER)) return answered(answer);
  await answer.body?.cancel();
  throw signatureRefused();
}

async function answerOf(target: PortTarget, { method, headers, body, signal }: Request): Promise<Response> {
  const size = contentLength(headers);
  // One that does not say its length may be of any.
  if (body && isWorthSocket(target.url, size ?? Infinity)) {
    const answer = await fetchWithBodyApart(target, { method, body, size, signal });
    if (answer) return answer;
  }
  return fetch(target.url, { method, headers: target.headers, body, signal, redirect: "manual" });
}
