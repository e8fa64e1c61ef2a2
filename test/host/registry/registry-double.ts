import { createHash, randomUUID, type Hash } from "node:crypto";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import { listening } from "../signed-host.ts";

export const TOKEN = "the-token-of-the-grant";
export const digestOf = (bytes: Uint8Array | string) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/** What goes wrong with one request. */
export type Fault =
  /** It is not done. */
  | { kind: "refused"; status: number; code?: string; message?: string }
  /** A PATCH is cut off after so many bytes; nothing of it stays unless `keeps`. `delayMs`: only then. */
  | { kind: "cut"; after: number; keeps: boolean; delayMs?: number }
  /** It is done, and the connection is gone before the answer. */
  | { kind: "lost" }
  /** The answer's body ends after so many bytes; `isChunked`: it does not say how long it is. */
  | { kind: "broken"; after: number; isChunked?: boolean }
  | { kind: "damaged" }
  /** Nothing is ever heard of it. */
  | { kind: "silent" }
  /** Nobody knows the upload any more. */
  | { kind: "forgotten" };

export interface Recorded {
  method: string;
  /** With its query. */
  path: string;
  headers: IncomingHttpHeaders;
  /** Of the body, as far as it came. */
  bytes: number;
  /** The client went away before it had the whole answer. */
  isLeft: boolean;
}

interface Session {
  size: number;
  parts: Buffer[];
  hash: Hash;
}

interface Reply {
  status: number;
  headers?: Record<string, string | number>;
  body?: Buffer;
}

class Refusal extends Error {
  readonly reply: Reply;

  constructor(status: number, code: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    const body = Buffer.from(JSON.stringify({ errors: [{ code, message }] }));
    this.reply = { status, headers: { "content-type": "application/json", ...headers }, body };
  }
}

/** The control plane's registry in memory, as strict with uploads, and in the same words. Does wrong what it is told to. */
export class RegistryDouble {
  readonly requests: Recorded[] = [];
  readonly blobs = new Map<string, Buffer>();
  /** By tag and by digest, of any repository. */
  readonly manifests = new Map<string, { type: string; body: Buffer }>();
  readonly sessions = new Map<string, Session>();
  /** False: of blobs there is the digest only, for tests that look at the memory. */
  keepsBytes = true;
  /** Says with scheme and host where an upload goes on. */
  isAbsolute = false;
  ignoresRanges = false;
  url = "";
  readonly #faults: { method: string; fault: Fault }[] = [];
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  static async start(): Promise<RegistryDouble> {
    const double = new RegistryDouble();
    double.url = `http://127.0.0.1:${await listening(double.#server)}`;
    return double;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** Of the next requests with this method so many go wrong, in the order in which it is said. */
  next(method: string, fault: Fault, times = 1): void {
    for (let i = 0; i < times; i++) this.#faults.push({ method, fault });
  }

  put(bytes: Buffer): string {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return digest;
  }

  of(method: string): Recorded[] {
    return this.requests.filter((one) => one.method === method);
  }

  /** Bytes of blobs that were sent, again and again where they were. */
  get sentBytes(): number {
    return this.of("PATCH").reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get largestBody(): number {
    return Math.max(0, ...this.requests.map(({ bytes }) => bytes));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url: path = "", headers, socket } = request;
    const seen: Recorded = { method, path, headers, bytes: 0, isLeft: false };
    this.requests.push(seen);
    request.on("data", (chunk: Buffer) => (seen.bytes += chunk.length)).pause();
    request.on("error", () => undefined);
    response.on("close", () => (seen.isLeft = !response.writableFinished));
    const at = this.#faults.findIndex((one) => one.method === method);
    const fault = at < 0 ? undefined : this.#faults.splice(at, 1)[0]!.fault;
    if (fault?.kind === "silent") return;
    let reply: Reply;
    try {
      if (headers.authorization !== `Bearer ${TOKEN}`) throw new Refusal(401, "UNAUTHORIZED", "Send an API key.");
      if (fault?.kind === "refused") {
        for await (const _ of request);
        throw new Refusal(fault.status, fault.code ?? "UNKNOWN", fault.message ?? "Not now.");
      }
      reply = await this.#route(request, fault);
    } catch (error) {
      if (!(error instanceof Refusal)) return void socket.destroy();
      reply = error.reply;
    }
    if (fault?.kind === "lost") return void socket.destroy();
    const body = fault?.kind === "damaged" ? Buffer.from(reply.body ?? "").fill(0, 0, 1) : reply.body;
    const isChunked = fault?.kind === "broken" && fault.isChunked;
    const length = reply.status === 204 || isChunked ? {} : { "content-length": body?.length ?? 0 };
    response.writeHead(reply.status, { ...length, ...reply.headers });
    if (fault?.kind !== "broken") return void response.end(method === "HEAD" ? undefined : body);
    response.flushHeaders();
    response.write(body!.subarray(0, fault.after), () => setTimeout(() => socket.destroy(), 20));
  }

  async #route(request: IncomingMessage, fault: Fault | undefined): Promise<Reply> {
    const { pathname, searchParams } = new URL(request.url!, this.url);
    const parts = /^\/v2\/([a-z0-9/-]+?)\/(blobs\/uploads|blobs|manifests)\/([^/]*)$/.exec(pathname);
    if (!parts) throw new Refusal(404, "UNSUPPORTED", "The registry has nothing at this path.");
    const [, repository = "", kind, name = ""] = parts;
    if (kind === "manifests") return this.#manifest(request, name);
    if (kind === "blobs") return this.#blob(request, name);
    const location = (id: string) =>
      `${this.isAbsolute ? "https://elsewhere:1" : ""}/v2/${repository}/blobs/uploads/${id}`;
    if (request.method === "POST") {
      const mount = searchParams.get("mount") ?? "";
      if (this.blobs.has(mount)) return { status: 201, headers: { location: `/v2/${repository}/blobs/${mount}` } };
      const id = randomUUID();
      this.sessions.set(id, { size: 0, parts: [], hash: createHash("sha256") });
      return { status: 202, headers: { location: location(id), range: "0-0" } };
    }
    if (fault?.kind === "forgotten") this.sessions.delete(name);
    const session = this.sessions.get(name);
    if (!session) throw new Refusal(404, "BLOB_UPLOAD_UNKNOWN", "There is no such upload.");
    const progress = () => ({ location: location(name), range: `0-${Math.max(0, session.size - 1)}` });
    if (request.method === "GET") return { status: 204, headers: progress() };
    if (request.method === "DELETE") {
      this.sessions.delete(name);
      return { status: 204 };
    }
    const [, first, last] = /^(\d+)-(\d+)$/.exec(request.headers["content-range"] ?? "") ?? [];
    if (first !== undefined) {
      if (Number(request.headers["content-length"]) !== Number(last) - Number(first) + 1)
        throw new Refusal(400, "SIZE_INVALID", "Content-Range and Content-Length do not say the same.");
      if (Number(first) !== session.size) {
        for await (const _ of request);
        throw new Refusal(416, "BLOB_UPLOAD_INVALID", "The bytes do not follow.", progress());
      }
    }
    await this.#append(request, session, fault?.kind === "cut" ? fault : undefined);
    if (request.method === "PATCH") return { status: 202, headers: progress() };
    this.sessions.delete(name);
    const actual = `sha256:${session.hash.digest("hex")}`;
    if (searchParams.get("digest") !== actual)
      throw new Refusal(400, "DIGEST_INVALID", `The content has the digest ${actual}. The upload is discarded.`);
    this.blobs.set(actual, Buffer.concat(session.parts));
    return { status: 201, headers: { location: `/v2/${repository}/blobs/${actual}`, "docker-content-digest": actual } };
  }

  async #append(request: IncomingMessage, session: Session, cut: Extract<Fault, { kind: "cut" }> | undefined) {
    let left = cut?.after ?? Infinity;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      const some = chunk.subarray(0, left);
      left -= some.length;
      if (!cut || cut.keeps) {
        session.hash.update(some);
        session.size += some.length;
        if (this.keepsBytes) session.parts.push(some);
      }
      if (left === 0) break;
    }
    if (!cut) return;
    await new Promise((wake) => setTimeout(wake, cut.delayMs ?? 0));
    throw new Error("cut off");
  }

  #blob({ headers }: IncomingMessage, digest: string): Reply {
    const blob = this.blobs.get(digest);
    if (!blob) throw new Refusal(404, "BLOB_UNKNOWN", "There is no such blob.");
    const known = { "docker-content-digest": digest, "accept-ranges": "bytes", etag: `"${digest}"` };
    const type = { "content-type": "application/octet-stream" };
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "") ?? [];
    if (first === undefined || this.ignoresRanges) return { status: 200, headers: { ...known, ...type }, body: blob };
    if (Number(first) >= blob.length)
      throw new Refusal(416, "UNSUPPORTED", "The blob has no such bytes.", {
        "content-range": `bytes */${blob.length}`,
      });
    const body = blob.subarray(Number(first), last ? Number(last) + 1 : undefined);
    const range = `bytes ${first}-${Number(first) + body.length - 1}/${blob.length}`;
    return { status: 206, headers: { ...known, ...type, "content-range": range }, body };
  }

  async #manifest(request: IncomingMessage, reference: string): Promise<Reply> {
    if (request.method !== "PUT") {
      const found = this.manifests.get(reference);
      if (!found) throw new Refusal(404, "MANIFEST_UNKNOWN", "There is no such manifest.");
      const { type, body } = found;
      return { status: 200, headers: { "content-type": type, "docker-content-digest": digestOf(body) }, body };
    }
    const parts: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) parts.push(chunk);
    const body = Buffer.concat(parts);
    const { config, layers } = JSON.parse(body.toString()) as {
      config: { digest: string };
      layers: { digest: string }[];
    };
    if ([config, ...layers].some(({ digest }) => !this.blobs.has(digest)))
      throw new Refusal(404, "MANIFEST_BLOB_UNKNOWN", "The manifest names what is not there.");
    const digest = digestOf(body);
    const manifest = { type: request.headers["content-type"] ?? "", body };
    this.manifests.set(reference, manifest).set(digest, manifest);
    return { status: 201, headers: { location: request.url!, "docker-content-digest": digest } };
  }
}
