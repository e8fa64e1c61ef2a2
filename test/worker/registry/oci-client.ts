import { createExecutionContext, env, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { vi } from "vitest";
import { handle } from "../../../src/api/app.ts";
import { ADMIN_KEY, newKey, ORIGIN, send } from "../client.ts";

export const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
export const EMPTY_CONFIG = "application/vnd.oci.image.config.v1+json";
export const MIB = 1024 * 1024;
/** What the registry's parts are of. */
export const PART = 8 * MIB;

export interface OciOptions {
  /** A bearer token; null for none. */
  token?: string | null;
  headers?: Record<string, string>;
  body?: BodyInit;
  query?: Record<string, string>;
}

const requestOf = (method: string, path: string, { token = ADMIN_KEY, headers, body, query }: OciOptions) => {
  const all = new Headers(headers);
  if (token !== null && !all.has("authorization")) all.set("authorization", `Bearer ${token}`);
  const url = `${ORIGIN}${path}${query ? `?${new URLSearchParams(query)}` : ""}`;
  return new Request(url, { method, headers: all, ...(body !== undefined && { body }) });
};

/** One request to the registry, as the outside world makes it. */
export const oci = (method: string, path: string, options: OciOptions = {}): Promise<Response> =>
  send(requestOf(method, path, options));

/** The same handled right here: on another bucket, or with a body that this test goes on writing to. */
export const ociHere = (
  method: string,
  path: string,
  { bucket = env.SNAPSHOTS, ...options }: OciOptions & { bucket?: R2Bucket } = {},
): Promise<Response> =>
  handle(requestOf(method, path, options), { ...env, SNAPSHOTS: bucket }, createExecutionContext());

export interface OciFailure {
  status: number;
  code: string;
  message: string;
  detail?: Record<string, unknown>;
}

export async function failureOf(response: Response): Promise<OciFailure> {
  const type = response.headers.get("content-type");
  if (type !== "application/json") throw new Error(`${response.status} ${type}: ${await response.text()}`);
  const { errors } = (await response.json()) as { errors: [Omit<OciFailure, "status">] };
  return { status: response.status, ...errors[0] };
}

export async function digestOf(bytes: BufferSource | string): Promise<string> {
  const data = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return `sha256:${Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Bytes that are like no others. */
export function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}

/** An environment that no other test uses, and a key that may write there. */
export async function newEnvironment(): Promise<{ environment: string; token: string; repository: string }> {
  const environment = `e${crypto.randomUUID().slice(0, 8)}`;
  const { key } = await newKey(["write"], environment);
  return { environment, token: key, repository: `${environment}/app` };
}

/** Begins an upload; answers its path. */
export async function beginUpload(repository: string, token: string): Promise<string> {
  const response = await oci("POST", `/v2/${repository}/blobs/uploads/`, { token });
  if (response.status !== 202) throw new Error(`${response.status}: ${await response.text()}`);
  return response.headers.get("location")!;
}

/** Pushes a blob whole; answers its digest. */
export async function pushBlob(repository: string, token: string, bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = await digestOf(bytes);
  const response = await oci("POST", `/v2/${repository}/blobs/uploads/`, { token, query: { digest }, body: bytes });
  if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
  return digest;
}

export function putManifest(repository: string, token: string, reference: string, manifest: object): Promise<Response> {
  const { mediaType = OCI_MANIFEST } = manifest as { mediaType?: string };
  const headers = { "content-type": mediaType };
  return oci("PUT", `/v2/${repository}/manifests/${reference}`, { token, headers, body: JSON.stringify(manifest) });
}

export interface PushedImage {
  digest: string;
  manifest: { config: { digest: string }; layers: { digest: string; size: number }[] } & Record<string, unknown>;
}

/** Pushes an image of one small layer, with what `more` adds to its manifest; without a tag by its digest. */
export async function pushImage(
  repository: string,
  token: string,
  tag?: string,
  more: Record<string, unknown> = {},
): Promise<PushedImage> {
  const config = randomBytes(20);
  const layer = randomBytes(100);
  const manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: EMPTY_CONFIG, digest: await pushBlob(repository, token, config), size: 20 },
    layers: [
      {
        mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
        digest: await pushBlob(repository, token, layer),
        size: 100,
      },
    ],
    ...more,
  };
  const digest = await digestOf(JSON.stringify(manifest));
  const response = await putManifest(repository, token, tag ?? digest, manifest);
  if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
  return { digest, manifest };
}

const objectOf = (environment: string) => env.REGISTRIES.get(env.REGISTRIES.idFromName(environment));

/** Runs with a clock that is ahead. */
export async function ahead<T>(ms: number, run: () => Promise<T>): Promise<T> {
  const then = Date.now() + ms;
  const clock = vi.spyOn(Date, "now").mockReturnValue(then);
  try {
    return await run();
  } finally {
    clock.mockRestore();
  }
}

/** Lets the registry sweep as if so much time had passed. False where it has nothing to sweep for. */
export const sweepAfter = (environment: string, ms: number): Promise<boolean> =>
  ahead(ms, () => runDurableObjectAlarm(objectOf(environment)));

/** How many rows the registry has of everything. */
export const rowsOf = (environment: string): Promise<Record<string, number>> =>
  runInDurableObject(objectOf(environment), (_, { storage: { sql } }) => {
    const tables = ["blobs", "manifests", "manifest_blobs", "tags", "uploads", "upload_parts", "garbage"];
    const count = (table: string) => sql.exec<{ n: number }>(`SELECT count(*) AS n FROM ${table}`).one().n;
    return Object.fromEntries(tables.map((table) => [table, count(table)]));
  });

/** The keys that the environment has in the bucket. */
export async function keysOf(environment: string): Promise<string[]> {
  return (await env.SNAPSHOTS.list({ prefix: `blobs/${environment}/` })).objects.map(({ key }) => key);
}
