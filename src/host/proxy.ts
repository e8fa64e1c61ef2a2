import { request as httpRequest, type ClientRequest, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { ApiError } from "../contract/errors.ts";
import { endToEndHeaders, forwardedHeaders, forwardedTarget } from "./proxy-headers.ts";
import type { Container } from "./runtime.ts";
import { tooSlow, withTimeLimit } from "./time-limit.ts";

const DIAL_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 2_000;

/** A connection to a port of the container. Throws `port_unreachable`. */
async function dial(container: Container, port: number, limitMs = DIAL_TIMEOUT_MS): Promise<Duplex> {
  const dialing = container.dial(port);
  try {
    return await withTimeLimit(dialing, limitMs, tooSlow("Connecting"));
  } catch (cause) {
    dialing.then((late) => late.destroy()).catch(() => {});
    throw new ApiError("port_unreachable", { detail: `Nothing accepts connections on port ${port}.`, cause });
  }
}

/** True when the port accepts a connection. */
export async function isPortOpen(container: Container, port: number): Promise<boolean> {
  try {
    const socket = await dial(container, port, PROBE_TIMEOUT_MS);
    socket.on("error", () => {}).destroy();
    return true;
  } catch {
    return false;
  }
}

/** Asks the app on the port what the request asks; its answer passes as it is, as it comes. */
export async function forwardRequest(
  container: Container,
  port: number,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const upstream = await ask(container, port, request);
  await new Promise<void>((resolve, reject) => {
    let hasAnswered = false;
    response.once("close", () => {
      upstream.destroy();
      resolve();
    });
    upstream.on("error", (cause) => {
      if (hasAnswered) response.destroy();
      else
        reject(new ApiError("port_unreachable", { detail: "The app closed the connection without an answer.", cause }));
    });
    upstream.once("response", (answer) => {
      if (answer.statusCode! < 200 || answer.statusCode! > 599) {
        upstream.destroy();
        reject(new ApiError("port_unreachable", { detail: `The app answered with the status ${answer.statusCode}.` }));
        return;
      }
      hasAnswered = true;
      answer.on("error", () => response.destroy());
      response.writeHead(answer.statusCode!, answer.statusMessage, endToEndHeaders(answer.rawHeaders));
      // An event stream says its headers long before its first event.
      response.flushHeaders();
      answer.pipe(response);
    });
    // Node takes an unasked 101 off the response path.
    upstream.once("upgrade", (_, socket) => {
      socket.destroy();
      reject(new ApiError("port_unreachable", { detail: "The app switched protocols unasked." }));
    });
    if (hasBody(request)) request.pipe(upstream);
    else upstream.end();
  });
}

/**
 * The same for a request that asks to upgrade (WebSocket): once the app agrees, bytes pass untouched
 * both ways. Where it does not, its answer passes and the connection ends: what follows on it would
 * not be signed.
 */
export async function forwardUpgrade(
  container: Container,
  port: number,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const upstream = await ask(container, port, request, ["Connection", "Upgrade", "Upgrade", request.headers.upgrade!]);
  await new Promise<void>((resolve, reject) => {
    const closed = () => {
      upstream.destroy();
      resolve();
    };
    socket.once("close", closed);
    if (socket.destroyed) return closed();
    let hasAnswered = false;
    upstream.on("error", (cause) => {
      if (hasAnswered) socket.destroy();
      else
        reject(new ApiError("port_unreachable", { detail: "The app closed the connection without an answer.", cause }));
    });
    upstream.once("upgrade", (answer, app, appHead) => {
      hasAnswered = true;
      const headers = [
        "Connection",
        "Upgrade",
        "Upgrade",
        answer.headers.upgrade ?? "",
        ...endToEndHeaders(answer.rawHeaders),
      ];
      socket.write(responseHead(answer, headers), "latin1");
      if (appHead.length > 0) socket.write(appHead);
      if (head.length > 0) app.write(head);
      join(socket, app);
      app.once("close", resolve);
    });
    upstream.once("response", (answer) => {
      hasAnswered = true;
      answer.on("error", () => socket.destroy());
      socket.write(responseHead(answer, ["Connection", "close", ...endToEndHeaders(answer.rawHeaders)]), "latin1");
      answer.pipe(socket);
    });
    upstream.end();
  });
}

async function ask(
  container: Container,
  port: number,
  request: IncomingMessage,
  added: string[] = [],
): Promise<ClientRequest> {
  const path = forwardedTarget(request.headers["x-sandbar-target"]);
  const host = request.headers["x-sandbar-host"];
  const headers = forwardedHeaders(request.rawHeaders, {
    host: typeof host === "string" ? host : undefined,
    signedInAuthorization: request.headers["x-sandbar-signature"] === undefined,
  });
  if (request.headers["transfer-encoding"] !== undefined) added = [...added, "Transfer-Encoding", "chunked"];
  if (added[0] !== "Connection") added = ["Connection", "close", ...added];
  const socket = await dial(container, port);
  try {
    const upstream = httpRequest({
      method: request.method!,
      path,
      headers: [...headers, ...added],
      setHost: false,
      // Counts only without an agent, also without `agent: false`.
      createConnection: () => socket,
    });
    // Small answers to small questions should not wait for more.
    upstream.setNoDelay(true);
    return upstream;
  } catch (error) {
    socket.destroy();
    throw new ApiError("invalid_request", { detail: "The request cannot be passed on.", cause: error });
  }
}

const hasBody = ({ headers }: IncomingMessage) =>
  headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0";

function responseHead(answer: IncomingMessage, headers: string[]): string {
  let head = `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n`;
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${head}\r\n`;
}

/** Passes bytes both ways; each side may end its half by itself, an error ends both. */
function join(a: Duplex, b: Duplex): void {
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    one.on("error", () => other.destroy());
    one.once("close", () => {
      // What it said last may still be on its way to the other, unless it broke.
      if (!one.readableEnded) other.destroy();
    });
    one.pipe(other);
  }
}
