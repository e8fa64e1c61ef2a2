import { env, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { newId } from "../../../src/contract/ids.ts";
import {
  MAX_PACK_BYTES,
  signVolumeGrant,
  VOLUME_CHUNK_BYTES,
  type ChunkPlace,
  type CommitPart,
  type VolumeChanges,
  type VolumeEntry,
  type VolumeGrant,
} from "../../../src/contract/volume-sync.ts";
import { openVolume } from "../../../src/volumes/client.ts";
import { ahead } from "../registry/oci-client.ts";
import { ORIGIN, send } from "../client.ts";

export { ahead, randomBytes } from "../registry/oci-client.ts";
export { problemOf } from "../client.ts";

export const DAY_MS = 86_400_000;

export const hexId = (): string => crypto.randomUUID().replaceAll("-", "");

export async function hashOf(bytes: Uint8Array): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

type FileEntry = Extract<VolumeEntry, { type: "file" }>;
const OWNED = { mode: 0o644, uid: 0, gid: 0, mtime: "1700000000123456789" };

export const removed = (path: string): VolumeEntry => ({ path, type: "removed" });
export const directory = (path: string, more: object = {}): VolumeEntry => ({
  ...OWNED,
  mode: 0o755,
  path,
  type: "directory",
  ...more,
});
export const symlink = (path: string, target: string): VolumeEntry => ({ ...OWNED, path, type: "symlink", target });
export const emptyFile = (path: string, more: object = {}): FileEntry => ({
  ...OWNED,
  path,
  type: "file",
  size: 0,
  chunks: [],
  ...more,
});

/** A volume as a host has it. */
export class VolumeClient {
  readonly volumeId: string;
  readonly grant: VolumeGrant;

  constructor(grant: VolumeGrant) {
    this.volumeId = grant.volume_id;
    this.grant = grant;
  }

  /** A volume of its own. */
  static async create(environment = "main"): Promise<VolumeClient> {
    const volumeId = newId("volume");
    await openVolume(env, volumeId).create(environment, volumeId);
    return new VolumeClient({ volume_id: volumeId, environment, access: "write" });
  }

  /** The same volume by another grant. */
  with(grant: Partial<VolumeGrant>): VolumeClient {
    return new VolumeClient({ ...this.grant, ...grant });
  }

  get object() {
    return env.VOLUMES.get(env.VOLUMES.idFromName(this.volumeId));
  }

  get rpc() {
    return openVolume(env, this.volumeId);
  }

  get scope() {
    return { environment: this.grant.environment };
  }

  token(): Promise<string> {
    return signVolumeGrant(env.SIGNING_SECRET, this.grant);
  }

  async call(
    method: string,
    path: string,
    options: { json?: unknown; body?: BodyInit; headers?: object } = {},
  ): Promise<Response> {
    const headers = { authorization: `Bearer ${await this.token()}`, ...options.headers };
    const body = options.json === undefined ? options.body : JSON.stringify(options.json);
    const url = `${ORIGIN}/v1/volumes/${this.volumeId}/sync/${path}`;
    return send(new Request(url, { method, headers, ...(body !== undefined && { body }) }));
  }

  /** Puts a pack of its own, and tells where its chunks lie. */
  async pack(...chunks: Uint8Array[]): Promise<ChunkPlace[]> {
    const pack = hexId();
    const bytes = new Uint8Array(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).arrayBuffer());
    await this.putPack(pack, bytes);
    let offset = 0;
    const places: ChunkPlace[] = [];
    for (const chunk of chunks) {
      places.push({ hash: await hashOf(chunk), pack, offset, length: chunk.length });
      offset += chunk.length;
    }
    return places;
  }

  async putPack(pack: string, bytes: Uint8Array): Promise<void> {
    const response = await this.call("PUT", `packs/${pack}`, { body: bytes as Uint8Array<ArrayBuffer> });
    if (response.status !== 204) throw new Error(await response.text());
  }

  /** A file of this content, in a pack of its own. */
  async file(path: string, content: Uint8Array | string, more: object = {}): Promise<CommitPart> {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += VOLUME_CHUNK_BYTES)
      pieces.push(bytes.subarray(at, at + VOLUME_CHUNK_BYTES));
    const chunks: ChunkPlace[] = [];
    const perPack = MAX_PACK_BYTES / VOLUME_CHUNK_BYTES;
    for (let at = 0; at < pieces.length; at += perPack)
      chunks.push(...(await this.pack(...pieces.slice(at, at + perPack))));
    const entry = { ...emptyFile(path), size: bytes.length, chunks: chunks.map(({ hash }) => hash), ...more };
    return { entries: [entry], chunks };
  }

  part(commitId: string, number: number, part: CommitPart): Promise<Response> {
    return this.call("POST", `commits/${commitId}/parts/${number}`, { json: part });
  }

  finish(commitId: string, parts: number): Promise<Response> {
    return this.call("POST", `commits/${commitId}`, { json: { parts } });
  }

  /** A commit of these parts, which is to succeed; answers the version. */
  async commit(...parts: CommitPart[]): Promise<number> {
    const response = await this.tryCommit(...parts);
    if (response.status !== 200) throw new Error(await response.text());
    return (await response.json<{ version: number }>()).version;
  }

  async tryCommit(...parts: CommitPart[]): Promise<Response> {
    const commitId = hexId();
    for (const [number, part] of parts.entries()) {
      const response = await this.part(commitId, number, part);
      if (response.status !== 204) return response;
    }
    return this.finish(commitId, parts.length);
  }

  commitEntries(...entries: VolumeEntry[]): Promise<number> {
    return this.commit({ entries, chunks: [] });
  }

  async changes(query: Record<string, string | number> = {}): Promise<VolumeChanges> {
    const response = await this.call("GET", `changes?${new URLSearchParams(query as Record<string, string>)}`);
    if (response.status !== 200) throw new Error(await response.text());
    return response.json();
  }

  /** All that there is, by path. */
  async tree(): Promise<Record<string, VolumeEntry["type"]>> {
    const { entries } = await this.changes();
    return Object.fromEntries(entries.map(({ path, type }) => [path, type]).toSorted());
  }

  async keys(): Promise<string[]> {
    const prefix = `volumes/${this.volumeId}/`;
    return (await env.SNAPSHOTS.list({ prefix })).objects.map(({ key }) => key.slice(prefix.length));
  }

  /** Rows of a query on the volume's own tables. */
  rows<Row = Record<string, unknown>>(query: string): Promise<Row[]> {
    return runInDurableObject(this.object, (_, { storage: { sql } }) => sql.exec(query).toArray() as Row[]);
  }

  /** Lets the volume sweep as if so much time had passed, until it says that it is done. False where it has nothing to sweep for. */
  sweepAfter(ms: number): Promise<boolean> {
    return ahead(ms, () => runDurableObjectAlarm(this.object));
  }
}

/** What a host makes of the changes that it is told. */
export function applyChanges(tree: Map<string, VolumeEntry>, entries: VolumeEntry[]): void {
  for (const entry of entries) {
    if (entry.type === "removed") tree.delete(entry.path);
    else tree.set(entry.path, entry);
  }
}
