import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createHash } from "node:crypto";
import { newId } from "../../src/contract/ids.ts";
import type { VolumeMount } from "../../src/contract/volume-mount.ts";
import {
  CommitPartSchema,
  CommitSchema,
  HashesSchema,
  type ChunkPlace,
  type CommitPart,
  type VolumeEntry,
} from "../../src/contract/volume-sync.ts";

/** What becomes of a call: it is refused with a status, is cut before anything is done, or done and its answer lost. */
export type Fate = number | "cut" | "lost" | undefined;

export interface SeenCall {
  /** `GET changes`, `POST missing`, `POST locate`, `PUT packs`, `GET packs`, `POST parts`, `POST commit`. */
  name: string;
  sentBytes: number;
}

interface Versioned {
  entry: VolumeEntry;
  version: number;
}

/** One volume of the reference server. */
class StoredVolume {
  version = 0;
  /** What was removed before is not known any more. */
  toldSince = 0;
  readonly entries = new Map<string, Versioned>();
  readonly packs = new Map<string, Buffer>();
  readonly chunks = new Map<string, ChunkPlace>();
  readonly parts = new Map<string, Map<number, CommitPart>>();
  readonly done = new Map<string, number>();
}

/** The control plane's side of `contract/volume-sync.ts`, in memory, to be told what to fail at. */
export class VolumeServer {
  readonly calls: SeenCall[] = [];
  /** Decides of each call, by its name and how many of all there were before. */
  fate: (name: string, index: number) => Fate = () => undefined;
  readonly #volumes = new Map<string, StoredVolume>();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      void this.#answer(request, response).catch(() => response.destroy());
    });
    // A test that is busy does not look at its connections for a while.
    this.#server.keepAliveTimeout = 60_000;
  }

  static async start(): Promise<VolumeServer> {
    const server = new VolumeServer();
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  create(): string {
    const id = newId("volume");
    this.#volumes.set(id, new StoredVolume());
    return id;
  }

  /** Forgets what was removed until now. */
  forgetRemoved(volumeId: string): void {
    const volume = this.#volumes.get(volumeId)!;
    volume.toldSince = volume.version;
    for (const [path, { entry }] of volume.entries) if (entry.type === "removed") volume.entries.delete(path);
  }

  /** Forgets a chunk, as if nothing had been made of it in time. */
  forgetChunks(volumeId: string): void {
    this.#volumes.get(volumeId)!.chunks.clear();
  }

  drop(volumeId: string): void {
    this.#volumes.delete(volumeId);
  }

  mount(volumeId: string, more: Partial<VolumeMount> = {}): VolumeMount {
    return { path: "/data", volume_id: volumeId, read_only: false, token: "a-grant", ...more };
  }

  version(volumeId: string): number {
    return this.#volumes.get(volumeId)!.version;
  }

  /** What is in the volume, with the content of files as text. */
  tree(volumeId: string): Record<string, string> {
    return Object.fromEntries(
      this.#present(volumeId).map(({ entry }) => [entry.path, this.#show(volumeId, entry)] as const),
    );
  }

  entry(volumeId: string, path: string): VolumeEntry | undefined {
    return this.#volumes.get(volumeId)!.entries.get(path)?.entry;
  }

  content(volumeId: string, path: string): Buffer {
    const volume = this.#volumes.get(volumeId)!;
    const entry = this.entry(volumeId, path);
    if (entry?.type !== "file") throw new Error(`${path} is no file`);
    return Buffer.concat(
      entry.chunks.map((hash) => {
        const { pack, offset, length } = volume.chunks.get(hash)!;
        return volume.packs.get(pack)!.subarray(offset, offset + length);
      }),
    );
  }

  sentBytes(): number {
    return this.calls.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  }

  count(name: string): number {
    return this.calls.filter((call) => call.name === name).length;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #present(volumeId: string): Versioned[] {
    const all = [...this.#volumes.get(volumeId)!.entries.values()];
    return all
      .filter(({ entry }) => entry.type !== "removed")
      .toSorted((a, b) => (a.entry.path < b.entry.path ? -1 : 1));
  }

  #show(volumeId: string, entry: VolumeEntry): string {
    if (entry.type === "file") return this.content(volumeId, entry.path).toString();
    return entry.type === "symlink" ? `-> ${entry.target}` : `${entry.type}/`;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url!, "http://server");
    const [, volumeId, rest] = /^\/v1\/volumes\/([^/]+)\/sync\/(.+)$/.exec(url.pathname) ?? [];
    const parts = rest?.split("/") ?? [];
    const name = `${request.method} ${parts[0] === "commits" ? (parts[2] ?? "commit") : parts[0]}`;
    const fate = this.fate(name, this.calls.length);
    const call: SeenCall = { name, sentBytes: 0 };
    this.calls.push(call);
    if (fate === "cut") return void request.socket.destroy();
    const pieces: Buffer[] = [];
    for await (const piece of request) {
      pieces.push(piece as Buffer);
      call.sentBytes += (piece as Buffer).length;
    }
    const volume = this.#volumes.get(volumeId ?? "");
    if (typeof fate === "number") return problem(response, fate, "backend_unavailable");
    if (request.headers.authorization !== "Bearer a-grant") return problem(response, 401, "unauthenticated");
    if (!volume) return problem(response, 404, "volume_not_found");
    const answer = respond(volume, name, parts, url.searchParams, Buffer.concat(pieces), request.headers.range);
    if (fate === "lost") return void request.socket.destroy();
    if (answer === undefined) return void response.writeHead(204).end();
    if ("status" in answer) return problem(response, answer.status, answer.code);
    if ("bytes" in answer) return void response.writeHead(206).end(answer.bytes);
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer.json));
  }
}

function problem(response: ServerResponse, status: number, code: string): void {
  const body = JSON.stringify({ code, title: code, detail: `this is ${code}` });
  response.writeHead(status, { "content-type": "application/problem+json" }).end(body);
}

type Reply = { json: unknown } | { bytes: Buffer } | { status: number; code: string } | undefined;

function respond(
  volume: StoredVolume,
  name: string,
  [, id = "", , number = ""]: string[],
  query: URLSearchParams,
  body: Buffer,
  range: string | undefined,
): Reply {
  const json = () => JSON.parse(body.toString()) as unknown;
  switch (name) {
    case "GET changes":
      if (Number(query.get("since")) > 0 && Number(query.get("since")) < volume.toldSince)
        return { status: 409, code: "conflict" };
      return { json: changesOf(volume, query) };
    case "POST missing": {
      const { hashes } = HashesSchema.parse(json());
      return { json: { hashes: hashes.filter((hash) => !volume.chunks.has(hash)) } };
    }
    case "POST locate": {
      const { hashes } = HashesSchema.parse(json());
      return { json: { chunks: hashes.flatMap((hash) => volume.chunks.get(hash) ?? []) } };
    }
    case "PUT packs":
      volume.packs.set(id, body);
      return undefined;
    case "GET packs": {
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "")!;
      return { bytes: volume.packs.get(id)!.subarray(Number(first), Number(last) + 1) };
    }
    case "POST parts": {
      const kept = volume.parts.get(id) ?? new Map<number, CommitPart>();
      volume.parts.set(id, kept.set(Number(number), CommitPartSchema.parse(json())));
      return undefined;
    }
    case "POST commit":
      return commit(volume, id, CommitSchema.parse(json()).parts);
    default:
      return { status: 404, code: "not_found" };
  }
}

function changesOf(volume: StoredVolume, query: URLSearchParams) {
  const since = Number(query.get("since"));
  const prefix = query.get("prefix");
  const from = Number(query.get("after") ?? 0);
  const limit = Number(query.get("limit"));
  const all = [...volume.entries.values()]
    .filter(({ version, entry }) => version > since && (since > 0 || entry.type !== "removed"))
    .filter(({ entry }) => prefix === null || entry.path.startsWith(`${prefix}/`))
    .toSorted((a, b) => a.version - b.version || (a.entry.path < b.entry.path ? -1 : 1));
  const entries = all.slice(from, from + limit).map(({ entry }) => entry);
  const more = from + limit < all.length ? { after: String(from + limit) } : {};
  return { version: volume.version, entries, ...more };
}

function commit(volume: StoredVolume, id: string, count: number): Reply {
  const known = volume.done.get(id);
  if (known !== undefined) return { json: { version: known } };
  const parts = Array.from({ length: count }, (_, index) => volume.parts.get(id)?.get(index));
  if (parts.includes(undefined)) return { status: 409, code: "conflict" };
  const places = parts.flatMap((part) => part!.chunks);
  for (const place of places) {
    const bytes = volume.packs.get(place.pack)?.subarray(place.offset, place.offset + place.length);
    if (!bytes || createHash("sha256").update(bytes).digest("hex") !== place.hash)
      return { status: 409, code: "conflict" };
  }
  const named = new Set([...volume.chunks.keys(), ...places.map(({ hash }) => hash)]);
  const entries = parts.flatMap((part) => part!.entries);
  const isWhole = entries.every((entry) => entry.type !== "file" || entry.chunks.every((hash) => named.has(hash)));
  if (!isWhole) return { status: 409, code: "conflict" };
  volume.version++;
  for (const place of places) volume.chunks.set(place.hash, place);
  for (const entry of entries) put(volume, entry);
  volume.done.set(id, volume.version);
  return { json: { version: volume.version } };
}

function put(volume: StoredVolume, entry: VolumeEntry): void {
  const set = (one: VolumeEntry) => volume.entries.set(one.path, { entry: one, version: volume.version });
  if (entry.type === "removed") {
    if (volume.entries.has(entry.path)) set(entry);
    return;
  }
  for (let at = entry.path.indexOf("/"); at >= 0; at = entry.path.indexOf("/", at + 1)) {
    const path = entry.path.slice(0, at);
    if (volume.entries.get(path)?.entry.type === "directory") continue;
    set({ path, type: "directory", mode: 0o755, uid: 0, gid: 0, mtime: "0" });
  }
  const before = volume.entries.get(entry.path)?.entry.type;
  set(entry);
  if (entry.type === "directory" || before !== "directory") return;
  for (const path of volume.entries.keys()) {
    if (path.startsWith(`${entry.path}/`)) set({ path, type: "removed" });
  }
}
