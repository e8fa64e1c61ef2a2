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
