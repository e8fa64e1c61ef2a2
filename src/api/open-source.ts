import type { ByteSource } from "../contract/byte-source.ts";
import { asApiError, type ErrorCode } from "../contract/errors.ts";
import { errorOfHostAnswer, hostAway } from "../contract/host-answer.ts";
import { HOST_FAILURES } from "../sandbox/process-output.ts";

/**
 * Opens the source and hands its bytes on untouched: they stream from the host to the client without passing the
 * sandbox's object. A client that leaves ends it. Throws what the host answers.
 */
export async function openSource(source: ByteSource, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  if (source.kind === "stream") return source.body;
  const { url, headers } = source;
  const response = await fetch(url, { headers, signal, redirect: "manual" }).catch((cause: unknown) => {
    throw hostAway(cause);
  });
  const error = await errorOfHostAnswer(response);
  if (error) throw error;
  return response.body ?? new Response("").body!;
}

/** The same; where the host does not have the process, or is not there, `recall` asks what the sandbox's object knows. */
export async function openOrRecall(
  source: ByteSource,
  recall: (failure: ErrorCode) => Promise<ByteSource>,
  signal: AbortSignal,
): Promise<ReadableStream<Uint8Array>> {
  try {
    return await openSource(source, signal);
  } catch (error) {
    const code = asApiError(error)?.code;
    if (!code || !HOST_FAILURES.includes(code)) throw error;
    return openSource(await recall(code), signal);
  }
}
