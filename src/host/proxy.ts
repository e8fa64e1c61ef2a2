import { request as httpRequest, type ClientRequest, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { ApiError } from "../contract/errors.ts";
import { passBody } from "./bulk-answer.ts";
import { hasBody, headOfLast, headOfUpgrade, passHead, upgradeTo } from "./http-head.ts";
import { forwardedTarget, headersForApp } from "./proxy-headers.ts";
import type { Container } from "./runtime.ts";
import type { RequestBody } from "./request-bodies.ts";
import { splice } from "./splice.ts";
import { tooSlow, withTimeLimit } from "./time-limit.ts";

const DIAL_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 2_000;
/** Of a request to upgrade: until it is answered nobody reads its connection, and so nobody learns that its client has gone. */
const UPGRADE_TIMEOUT_MS = 60_000;
/** What does not listen yet may soon. */
const RETRY_AFTER_S = 1;
/** What is the matter where the app does run. A container of an engine is reached by its address, as by any other machine. */
const LISTEN_EVERYWHERE = "An app on a docker host has to listen on 0.0.0.0: one on 127.0.0.1 alone is not reached.";

/** A connection to a port of the container. Throws `port_unreachable`. */
async function dial(container: Container, port: number, limitMs = DIAL_TIMEOUT_MS): Promise<Duplex> {
  const dialing = container.dial(port);
  try {
    return await withTimeLimit(dialing, limitMs, tooSlow("Connecting"));
  } catch (cause) {
    dialing.then((late) => late.destroy()).catch(() => {});
    const detail = `Nothing accepts connections on port ${port}. ${LISTEN_EVERYWHERE}`;
    throw new ApiError("port_unreachable", { detail, retryAfter: RETRY_AFTER_S, cause });
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

/** A body that does not come with its request, and its length in bytes; undefined of one in chunks. */
export interface BodyApart {
  from: RequestBody;
  length: number | undefined;
}

/** Asks the app on the port what the request asks; its answer passes as it is, as it comes. `moved` is called whenever bytes do. */
export async function forwardRequest(
  container: Container,
  port: number,
  request: IncomingMessage,
  response: ServerResponse,
  moved: () => void,
  body?: BodyApart,
): Promise<void> {
  const upstream = await ask(container, port, request, [], body);
  request.on("data", moved);
  await new Promise<void>((resolve, reject) => {
    let begun: IncomingMessage | undefined;
    let hasBroken = false;
    upstream.on("error", (cause) => {
      // An answer that has come to its end is still passed on.
      if (begun?.complete) return;
      if (begun) response.destroy();
      else
        reject(new ApiError("port_unreachable", { detail: "The app closed the connection without an answer.", cause }));
    });
    const closed = () => {
      upstream.destroy();
      resolve();
    };
    response.once("close", closed);
    // Who asked may have gone while the port was dialled.
    if (response.destroyed) return closed();
    upstream.once("response", (answer) => {
      if (answer.statusCode! < 200 || answer.statusCode! > 599) {
        upstream.destroy();
        reject(new ApiError("port_unreachable", { detail: `The app answered with the status ${answer.statusCode}.` }));
        return;
      }
      if (!passHead(answer, response)) {
        upstream.destroy();
        reject(new ApiError("port_unreachable", { detail: "The app's answer is none that HTTP knows." }));
        return;
      }
      begun = answer;
      passBody({ upstream, answer, response, moved, hasBroken: () => hasBroken });
    });
    // Node takes an unasked 101 off the response path.
    upstream.once("upgrade", (_, socket) => {
      socket.destroy();
      reject(new ApiError("port_unreachable", { detail: "The app switched protocols unasked." }));
    });
    if (!body && !hasBody(request)) return void upstream.end();
    // Who sends a body may wait for an answer to what came before it.
    upstream.flushHeaders();
    if (!body) return void request.pipe(upstream);
    const broke = (error: ApiError) => {
      if (begun?.complete) return;
      if (begun) response.destroy();
      reject(error);
      upstream.destroy();
    };
    const refused = () => void (hasBroken ||= !begun?.complete);
    const pass = (app: Duplex) => body.from.passTo(app, { length: body.length, moved, broke, refused });
    if (upstream.socket) pass(upstream.socket);
    // Node writes the head right after it has told of the connection.
    else upstream.once("socket", (app) => process.nextTick(pass, app));
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
  moved: () => void,
): Promise<void> {
  const upstream = await ask(container, port, request, upgradeTo(request.headers.upgrade));
  await new Promise<void>((resolve, reject) => {
    let hasAnswered = false;
    upstream.on("error", (cause) => {
      if (hasAnswered) socket.destroy();
      else
        reject(new ApiError("port_unreachable", { detail: "The app closed the connection without an answer.", cause }));
    });
    const closed = () => {
      upstream.destroy();
      resolve();
    };
    socket.once("close", closed);
    if (socket.destroyed) return closed();
    const timer = setTimeout(() => upstream.destroy(new Error("no answer in time")), UPGRADE_TIMEOUT_MS);
    for (const event of ["upgrade", "response", "close"]) upstream.once(event, () => clearTimeout(timer));
    upstream.once("upgrade", (answer, app, appHead) => {
      hasAnswered = true;
      socket.write(headOfUpgrade(answer), "latin1");
      if (appHead.length > 0) socket.write(appHead);
      if (head.length > 0) app.write(head);
      moved();
      for (const one of [socket, app]) one.on("data", moved);
      splice(socket, app, (broken) => broken.destroy());
      app.once("close", resolve);
    });
    upstream.once("response", (answer) => {
      hasAnswered = true;
      answer.on("error", () => socket.destroy());
      socket.write(headOfLast(answer), "latin1");
      answer.on("data", moved).pipe(socket);
    });
    upstream.end();
  });
}

async function ask(
  container: Container,
  port: number,
  request: IncomingMessage,
  added: string[] = [],
  body?: BodyApart,
): Promise<ClientRequest> {
  const path = forwardedTarget(request.headers["x-sandbar-target"]);
  const said = (name: string) => {
    const value = request.headers[`x-sandbar-${name}`];
    return typeof value === "string" ? value : undefined;
  };
  const headers = headersForApp(request.rawHeaders, {
    host: said("host"),
    protocol: said("protocol"),
    client: said("client"),
    signedInAuthorization: request.headers["x-sandbar-signature"] === undefined,
    isBodyApart: body !== undefined,
  });
  if (body?.length !== undefined) added = [...added, "Content-Length", String(body.length)];
  else if (body || request.headers["transfer-encoding"] !== undefined)
    added = [...added, "Transfer-Encoding", "chunked"];
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
