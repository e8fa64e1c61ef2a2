import { env } from "cloudflare:test";
import { afterEach, beforeEach, expect, vi } from "vitest";
import type { Host } from "../../src/contract/host.ts";
import type { HostOrders } from "../../src/contract/host-report.ts";
import { CONTROL_PLANE_AUDIENCE, deriveHostKey, signRequest } from "../../src/contract/host-token.ts";
import { call, connectHost, forgetHosts, HOST_ID, hostInfo, ORIGIN, send } from "./client.ts";

export const OTHER_HOST_ID = "ho-bbbbbbbbbbbbbbbbbbbbbb";
export const PATH = `/v1/hosts/${HOST_ID}`;

export async function getHost(): Promise<Host> {
  const response = await call("GET", PATH);
  expect(response.status).toBe(200);
  return response.json();
}

export const setNow = (ms: number) => vi.spyOn(Date, "now").mockReturnValue(ms);

/** A report as the host sends it, signed with its key of a version. */
export async function report(version: number, hostId = HOST_ID): Promise<Response> {
  const path = `/v1/hosts/${hostId}/report`;
  const key = await deriveHostKey(env.SIGNING_SECRET, hostId, version);
  const authorization = await signRequest(key, CONTROL_PLANE_AUDIENCE, "POST", path, version);
  return send(
    new Request(ORIGIN + path, {
      method: "POST",
      headers: { authorization, "content-type": "application/json" },
      body: JSON.stringify({ url: "http://127.0.0.1:9", info: hostInfo(hostId), containers: [] }),
    }),
  );
}

export async function ordersOf(version: number): Promise<HostOrders> {
  const response = await report(version);
  expect(response.status).toBe(200);
  return response.json();
}

export async function rotate(json?: object, headers: Record<string, string> = {}) {
  const response = await call("POST", `${PATH}/rotate-key`, { ...(json && { json }), headers });
  expect(response.status).toBe(202);
  return (await response.json()) as { host_id: string; next_key_version: number; token?: string };
}

/** Of the tests of the file: one host is connected, and no other is known. */
export function withOneHost(): void {
  beforeEach(async () => {
    await forgetHosts();
    await connectHost();
  });
  afterEach(() => vi.restoreAllMocks());
}
