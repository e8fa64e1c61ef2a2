import { ApiError } from "../../contract/errors.ts";
import { OWN_PREFIX } from "../../contract/forwarding.ts";

/** As much as is passed on at once. */
const BUFFER_BYTES = 256 * 1024;

/** A request on its way to a port, untouched: `moved` is called whenever some of its body is. */
export function whilePassing(request: Request, moved: () => void): Request {
  if (!request.body) return request;
  const { readable, writable } = channelOf(request);
  void pass(request.body, writable, moved).catch(() => undefined);
  const { url, method, headers, signal } = request;
  return new Request(url, { method, headers, signal, body: readable, redirect: "manual" });
}

/**
 * The answer of a port on its way out, untouched but for what only we say: `moved` is called whenever some of its body is, and `done`
 * once all has passed.
 */
export function untilPassed(response: Response, done: () => void, moved: () => void): Response {
  const { status, body, webSocket } = response;
  const headers = new Headers([...response.headers].filter(([name]) => !name.startsWith(OWN_PREFIX)));
  if (!body) {
    done();
    return new Response(null, { status, headers, webSocket });
  }
  const { readable, writable } = channelOf(response);
  void pass(body, writable, moved)
    .catch(() => undefined)
    .finally(done);
  // The body is as it came, compressed or not.
  return new Response(readable, { status, headers, encodeBody: "manual" });
}

function channelOf({ headers }: Request | Response) {
  const length = headers.get("content-length");
  return length === null ? new IdentityTransformStream() : new FixedLengthStream(BigInt(length));
}

/** Passes the bytes on as they come, many at once where there are many. An end before their end is one on the other side, too. */
async function pass(
  from: ReadableStream<Uint8Array>,
  to: WritableStream<Uint8Array>,
  moved: () => void,
): Promise<void> {
  const reader = from.getReader({ mode: "byob" });
  const writer = to.getWriter();
  try {
    for (;;) {
      const { value, done } = await reader.read(new Uint8Array(BUFFER_BYTES));
      if (done) break;
      moved();
      await writer.write(value);
    }
    await writer.close();
  } catch (error) {
    await Promise.allSettled([reader.cancel(error), writer.abort(error)]);
  }
}

/** Whatever keeps the platform from connecting, for who called the port. */
export function portUnreachable(port: number, cause: unknown): ApiError {
  return new ApiError("port_unreachable", { detail: `Nothing in the sandbox answers on port ${port}.`, cause });
}
