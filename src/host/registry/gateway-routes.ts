import { randomUUID } from "node:crypto";
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { buffer } from "node:stream/consumers";
import { BlobUpload } from "./blob-upload.ts";
import type { Visit } from "./gateway.ts";
import { RegistryError, wholeOf } from "./upstream.ts";

/** Of the registry's answers, what an engine goes by. */
const PASSED_ON = ["content-type", "content-length", "content-range", "docker-content-digest", "etag", "accept-ranges"];
const ASKED_WITH = ["accept", "range", "content-type"];
const CODES: Record<number, string> = {
  401: "UNAUTHORIZED",
  403: "DENIED",
  404: "NAME_UNKNOWN",
  429: "TOOMANYREQUESTS",
};

/** Answers one request of the engine's, for whom it has shown itself to be. */
export async function answerGateway(
  visit: Visit | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    if (!visit) {
      const challenge = { "www-authenticate": 'Basic realm="sandbar host"' };
      return refuse(response, new RegistryError("only the host's own engine is let in here", 401), challenge);
    }
    await route(visit, request, response);
  } catch (error) {
    if (response.headersSent || response.destroyed) return void response.destroy();
    if (!(error instanceof RegistryError)) console.error("sandbar host: the registry's gateway failed:", error);
    refuse(response, error instanceof RegistryError ? error : new RegistryError("the gateway failed", 500, error));
  } finally {
    request.resume();
  }
}

async function route(visit: Visit, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url!, "http://gateway");
  if (pathname === "/v2/") return answer(response, 200, { "content-type": "application/json" }, "{}");
  const base = `/v2/${visit.repository}/`;
  if (!pathname.startsWith(base)) throw new RegistryError("the repository is not the one that was granted", 404);
  const rest = pathname.slice(base.length);
  const uploads = /^blobs\/uploads\/([0-9a-f-]{36})?$/.exec(rest);
  if (!uploads) return forward(visit, request, response);
  const id = uploads[1];
  if (id === undefined) return beginUpload(visit, searchParams, response);
  const upload = visit.uploads.get(id);
  if (!upload) throw new RegistryError("there is no such upload", 404);
  const place = { location: pathname, "docker-upload-uuid": id };
  switch (request.method) {
    case "PATCH":
      await take(request, visit, upload);
      return answer(response, 202, { ...place, range: rangeOf(upload) });
    case "GET":
      return answer(response, 204, { ...place, range: rangeOf(upload) });
    case "PUT": {
      await take(request, visit, upload);
      const digest = searchParams.get("digest") ?? "";
      await upload.finish(digest);
      visit.uploads.delete(id);
      return answer(response, 201, { location: `${base}blobs/${digest}`, "docker-content-digest": digest });
    }
    case "DELETE":
      visit.uploads.delete(id);
      await upload.cancel();
      return answer(response, 204, {});
    default:
      throw new RegistryError("an upload does not do this", 405);
  }
}

async function beginUpload(visit: Visit, query: URLSearchParams, response: ServerResponse): Promise<void> {
  const mount = query.get("mount") ?? undefined;
  const upload = await BlobUpload.begin(visit.upstream, visit.repository, { mount });
  if (!upload) {
    const location = `/v2/${visit.repository}/blobs/${mount}`;
    return answer(response, 201, { location, "docker-content-digest": mount });
  }
  const id = randomUUID();
  visit.uploads.set(id, upload);
  const location = `/v2/${visit.repository}/blobs/uploads/${id}`;
  answer(response, 202, { location, "docker-upload-uuid": id, range: "0-0" });
}

async function take(request: IncomingMessage, visit: Visit, upload: BlobUpload): Promise<void> {
  for await (const bytes of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    visit.uploadedBytes += bytes.length;
    await upload.write(bytes);
  }
}

/** Reads, and manifests on their way up. */
async function forward(visit: Visit, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const method = request.method!;
  const body = method === "PUT" ? new Uint8Array(await buffer(request)) : undefined;
  const headers = Object.fromEntries(
    ASKED_WITH.flatMap((name) => (request.headers[name] === undefined ? [] : [[name, String(request.headers[name])]])),
  );
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  // What it has of a blob an engine completes by itself, a manifest it does not.
  const { pathname, search } = new URL(request.url!, "http://gateway");
  const isDocument = pathname.includes("/manifests/");
  const { got, document } = await visit.upstream.retrying(async () => {
    const got = await visit.upstream.once(method, pathname + search, {
      headers,
      ...(body && { body }),
      signal: gone.signal,
    });
    return { got, document: isDocument ? await wholeOf(got) : undefined };
  }, gone.signal);
  const passed = PASSED_ON.flatMap((name) => {
    const value = got.headers.get(name);
    return value === null ? [] : [[name, value]];
  });
  response.writeHead(got.status, Object.fromEntries(passed));
  if (document) response.end(document);
  else if (got.body && method !== "HEAD") await pipeline(Readable.fromWeb(got.body as ReadableStream), response);
  else response.end();
}

const rangeOf = ({ size }: BlobUpload): string => `0-${Math.max(0, size - 1)}`;

function answer(response: ServerResponse, status: number, headers: OutgoingHttpHeaders, body = ""): void {
  const api = { "docker-distribution-api-version": "registry/2.0" };
  const length = status === 204 ? {} : { "content-length": Buffer.byteLength(body) };
  response.writeHead(status, { ...api, ...length, ...headers }).end(body);
}

function refuse(response: ServerResponse, error: RegistryError, headers: OutgoingHttpHeaders = {}): void {
  const status = error.status === 0 ? 503 : error.status;
  const body = JSON.stringify({ errors: [{ code: CODES[status] ?? "UNKNOWN", message: error.message }] });
  answer(response, status, { "content-type": "application/json", ...headers }, body);
}
