import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { ApiError } from "../contract/errors.ts";
import { ReplayGuard, verifyRequest } from "../contract/host-token.ts";
import type { HostKeys } from "./host-keys.ts";
import { problemOf, sendError, toApiError } from "./server/respond.ts";
import type { HostContext } from "./server/route.ts";
import { findRoute, findUpgrade } from "./server/router.ts";

/** Longer than the pauses of the Worker, so that it finds its connections open. */
const KEEP_ALIVE_MS = 75_000;
const HEADERS_TIMEOUT_MS = 15_000;
/** How long the rest of a refused upload is read. */
const DISCARD_TIMEOUT_MS = 5_000;

export interface HostServerOptions extends HostContext {
  keys: HostKeys;
}

/**
 * The HTTP server of the host protocol. Nothing is looked at before the signature of a request holds,
 * whatever its path.
 */
export function createHostServer(options: HostServerOptions): Server {
  const replays = new ReplayGuard();
  const { info, keys } = options;

  const verify = async (request: IncomingMessage) => {
    // The tunnel carries the user's own Authorization; the signature then has a header of its own.
    const signature = request.headers["x-sandbar-signature"] ?? request.headers.authorization;
    return verifyRequest(
      async (version) => keys.find(version),
      info.host_id,
      { authorization: String(signature ?? ""), method: request.method!, target: request.url! },
      replays,
    );
  };

  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const abort = new AbortController();
    response.once("close", () => abort.abort());
    let sandboxId: string | undefined;
    try {
      await verify(request);
      const { path, query } = splitTarget(request.url!);
      const { handler, args } = findRoute(request.method!, path);
      sandboxId = args[0];
      await handler({ host: options, request, response, query, signal: abort.signal }, ...args);
    } catch (error) {
      if (abort.signal.aborted) return;
      sendError(response, endedInstead(options, sandboxId, error));
      if (!request.complete) discardBody(request);
    }
  };

  const upgrade = async (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    try {
      await verify(request);
      const { path } = splitTarget(request.url!);
      const { handler, args } = findUpgrade(request.method!, path);
      await handler({ host: options, request, socket, head }, ...args);
    } catch (error) {
      refuseUpgrade(socket, toApiError(error));
    }
  };

  const server = createServer(
    {
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      // The longest path, percent-encoded, stands in the target and again in its signature.
      maxHeaderSize: 65_536,
      // Bodies may take as long as they take: uploads, followed output, tunnels.
      requestTimeout: 0,
      noDelay: true,
      // Finds out about peers that vanished without a word.
      keepAlive: true,
      keepAliveInitialDelay: 30_000,
    },
    (request, response) => void answer(request, response),
  );
  server.on("upgrade", (request, socket, head) => void upgrade(request, socket, head));
  return server;
}

function splitTarget(target: string): { path: string; query: URLSearchParams } {
  const at = target.indexOf("?");
  return at < 0
    ? { path: target, query: new URLSearchParams() }
    : { path: target.slice(0, at), query: new URLSearchParams(target.slice(at + 1)) };
}

/** Reads on for a while without looking, so that a client still sending hears the answer before the connection ends. */
function discardBody(request: IncomingMessage): void {
  request.on("error", () => {}).resume();
  const cut = setTimeout(() => request.destroy(), DISCARD_TIMEOUT_MS);
  request.once("close", () => clearTimeout(cut));
}

/** What fails because the container has ended meanwhile says so, and not how it failed. */
function endedInstead({ containers }: HostContext, sandboxId: string | undefined, error: unknown): unknown {
  if (!(error instanceof ApiError) && sandboxId?.startsWith("sb-") && !containers.isRunning(sandboxId)) {
    return new ApiError("sandbox_ended", { cause: error });
  }
  return error;
}

function refuseUpgrade(socket: Duplex, error: ApiError): void {
  if (socket.destroyed) return;
  const { status, headers, body } = problemOf(error);
  let head = `HTTP/1.1 ${status} ${error.code}\r\nConnection: close\r\n`;
  for (const [name, value] of Object.entries(headers)) head += `${name}: ${String(value)}\r\n`;
  socket.end(`${head}\r\n${body}`);
  setTimeout(() => socket.destroy(), 2_000).unref();
}
