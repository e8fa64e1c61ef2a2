import { ApiError } from "../../contract/errors.ts";

/**
 * Hands the answer of a port on, and calls `done` when the exchange is over: a body at its end, a socket once it is closed.
 */
export function untilOver(response: Response, done: () => void): Response {
  if (response.webSocket) return relayed(response, response.webSocket, done);
  if (!response.body) {
    done();
    return response;
  }
  const { readable, writable } = new IdentityTransformStream();
  void response.body
    .pipeTo(writable)
    .catch(() => undefined)
    .finally(done);
  return new Response(readable, response);
}

function relayed(response: Response, inner: WebSocket, done: () => void): Response {
  const { 0: theirs, 1: outer } = new WebSocketPair();
  const pass = (from: WebSocket, to: WebSocket) => {
    from.binaryType = "arraybuffer";
    from.addEventListener("message", ({ data }) => {
      if (to.readyState === WebSocket.OPEN) to.send(data as ArrayBuffer | string);
    });
    from.addEventListener("close", ({ code, reason }) => {
      close(to, code, reason);
      close(from, code, reason);
      done();
    });
    from.addEventListener("error", () => close(to, 1011, "the other side is gone"));
    from.accept();
  };
  pass(inner, outer);
  pass(outer, inner);
  return new Response(null, { status: 101, webSocket: theirs, headers: response.headers });
}

/** Codes that only tell what happened cannot be sent. */
function close(socket: WebSocket, code: number, reason: string): void {
  try {
    if ([1005, 1006, 1015].includes(code)) socket.close();
    else socket.close(code, reason);
  } catch {
    // It has gone already.
  }
}

/** Whatever keeps the platform from connecting, for who called the port. */
export function portUnreachable(port: number, cause: unknown): ApiError {
  return new ApiError("port_unreachable", { detail: `Nothing in the sandbox answers on port ${port}.`, cause });
}
