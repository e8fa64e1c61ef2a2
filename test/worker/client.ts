import { env, runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { vi } from "vitest";
import { HostCatalog } from "../../src/catalog/hosts.ts";
import type { HostInfo } from "../../src/contract/host-info.ts";
import type { WarmSpec } from "../../src/contract/host-protocol.ts";
import type { HostReport } from "../../src/contract/host-report.ts";
import type { ScopeName } from "../../src/contract/key.ts";
import { openPlacement } from "../../src/placement/client.ts";
import type { Problem } from "../../src/contract/problem.ts";

export const ADMIN_KEY = env.ADMIN_KEY!;
export const ORIGIN = "http://api.test";
export const HOST_ID = "ho-aaaaaaaaaaaaaaaaaaaaaa";

/** A request to the Worker, as the outside world makes it. */
export const send = (request: Request): Promise<Response> => exports.default.fetch(request);

export interface CallOptions {
  /** The API key; null for none. */
  key?: string | null;
  /** Sent as JSON. */
  json?: unknown;
  headers?: Record<string, string>;
  body?: BodyInit;
}

/** One API call, with the admin key unless another is given. */
export function call(method: string, path: string, options: CallOptions = {}): Promise<Response> {
  const headers = new Headers(options.headers);
  const key = options.key === undefined ? ADMIN_KEY : options.key;
  if (key !== null && !headers.has("authorization")) headers.set("authorization", `Bearer ${key}`);
  if (options.json !== undefined && !headers.has("content-type")) headers.set("content-type", "application/json");
  const body = options.json === undefined ? options.body : JSON.stringify(options.json);
  return send(new Request(ORIGIN + path, { method, headers, ...(body !== undefined && { body }) }));
}

export async function problemOf(response: Response): Promise<Problem & Record<string, unknown>> {
  const type = response.headers.get("content-type");
  if (type !== "application/problem+json") throw new Error(`${response.status} ${type}: ${await response.text()}`);
  return response.json();
}

/** A new key, and its id. */
export async function newKey(scopes: ScopeName[], environment = "main"): Promise<{ key: string; key_id: string }> {
  const response = await call("POST", "/v1/keys", { json: { name: "test", environment, scopes } });
  if (response.status !== 201) throw new Error(await response.text());
  return response.json();
}

/** What a host of these tests says of itself. */
export function hostInfo(hostId: string): HostInfo {
  const capabilities = { cpu_limit: true, memory_limit: true, gpu: false, raw_tcp: true, exec_user: true, pty: true };
  return { host_id: hostId, version: "1", runtime: "docker", default_image: "fake", capabilities };
}

/** A host that reports: what the sandboxes of these tests run on. */
export async function connectHost(hostId = HOST_ID, reportedAt = Date.now()): Promise<void> {
  await reportHost({ url: "http://127.0.0.1:9", info: hostInfo(hostId), containers: [] }, reportedAt);
}

/** As the API does it when a host's report has come. */
export async function reportHost(
  report: HostReport,
  reportedAt = Date.now(),
  keyVersion = 1,
): Promise<WarmSpec[] | undefined> {
  await new HostCatalog(env.DB).report(report, reportedAt, keyVersion);
  const clock = vi.spyOn(Date, "now").mockReturnValue(reportedAt);
  try {
    return (await openPlacement(env).report(report, { draining: false, keyVersion })).warm;
  } finally {
    clock.mockRestore();
  }
}

/** None of them was ever there. */
export async function forgetHosts(): Promise<void> {
  await env.DB.exec("DELETE FROM hosts");
  const placement = env.PLACEMENT.get(env.PLACEMENT.idFromName("main"));
  await runInDurableObject(placement, (_, { storage }) => storage.deleteAll());
  // Whoever waits there for room asks again.
  await runInDurableObject(placement, (_, state) => state.abort("forgotten")).catch(() => undefined);
}

/** As if this one had never been there. */
export async function forgetHost(hostId: string): Promise<void> {
  await env.DB.prepare("DELETE FROM hosts WHERE host_id = ?").bind(hostId).run();
  await openPlacement(env).forget(hostId);
}

export interface Operation {
  method: string;
  path: string;
  operationId: string;
  scope: ScopeName | undefined;
  takesJson: boolean;
  /** What every request of it must carry: a WebSocket asks to become one. */
  headers: Record<string, string>;
}

/** Every operation of the generated document. */
export async function operations(): Promise<Operation[]> {
  const document = (await (await send(new Request(`${ORIGIN}/openapi.json`))).json()) as {
    paths: Record<
      string,
      Record<
        string,
        {
          operationId: string;
          security: { ModalToken?: ScopeName[] }[];
          requestBody?: { content: object };
          responses: object;
        }
      >
    >;
  };
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path: `/v1${path}`,
      operationId: operation.operationId,
      scope: operation.security[0]?.ModalToken?.[0],
      takesJson: "application/json" in (operation.requestBody?.content ?? {}),
      headers: "101" in operation.responses ? { upgrade: "websocket" } : {},
    })),
  );
}
