import { ApiError, asApiError } from "../contract/errors.ts";
import { formatEvent } from "../contract/events.ts";
import { toProblem } from "../contract/problem.ts";

/** Headers of a stream of server-sent events. */
export const EVENT_STREAM = {
  "content-type": "text/event-stream",
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
} as const;

/** True when the client asks for server-sent events by name. */
export function wantsEvents(accept: string | undefined): boolean {
  return (accept ?? "").split(",").some((range) => /^\s*text\/event-stream\s*(;|$)/i.test(range));
}

/** The texts as they come, until there are no more or the client has gone. One that fails ends the stream with `error`. */
export function eventStream(texts: AsyncIterable<string>, gone: AbortSignal): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const encoder = new TextEncoder();
  const write = async () => {
    try {
      for await (const text of texts) {
        if (gone.aborted) break;
        await writer.write(encoder.encode(text));
      }
    } catch (error) {
      const known = asApiError(error) ?? new ApiError("internal");
      await writer.write(encoder.encode(formatEvent("error", toProblem(known))));
    }
    await writer.close();
  };
  // Broken off here, it breaks off there: the client resumes.
  write().catch(() => writable.abort().catch(() => undefined));
  return readable;
}

/** One event, and behind it the stream that `open` opens meanwhile. Bytes pass natively, never through here. */
export function eventsAfter(
  first: string,
  open: () => Promise<ReadableStream<Uint8Array>>,
): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const write = async (text: string) => {
    const writer = writable.getWriter();
    await writer.write(new TextEncoder().encode(text));
    writer.releaseLock();
  };
  const pass = async () => {
    const opened = open();
    // Awaited below; a client that leaves before it must not leave it unhandled.
    opened.catch(() => undefined);
    await write(first);
    let rest: ReadableStream<Uint8Array>;
    try {
      rest = await opened;
    } catch (error) {
      await write(formatEvent("error", toProblem(asApiError(error) ?? new ApiError("internal"))));
      return writable.close();
    }
    await rest.pipeTo(writable);
  };
  // Broken off here, it breaks off there: the client resumes.
  pass().catch(() => undefined);
  return readable;
}
