import { env } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { HostCatalog } from "../../src/catalog/hosts.ts";
import type { Host } from "../../src/contract/host.ts";
import type { HostInfo } from "../../src/contract/host-info.ts";
import type { HostOrders } from "../../src/contract/host-protocol.ts";
import { CONTROL_PLANE_AUDIENCE, deriveHostKey, parseJoinToken, signRequest } from "../../src/contract/host-token.ts";
import { call, connectHost, forgetHosts, HOST_ID, hostInfo, newKey, ORIGIN, problemOf, send } from "./client.ts";
import { getSandbox, startSandbox } from "./sandboxes.ts";

const OTHER_HOST_ID = "ho-bbbbbbbbbbbbbbbbbbbbbb";
const PATH = `/v1/hosts/${HOST_ID}`;

beforeEach(async () => {
  await forgetHosts();
  await connectHost();
});
afterEach(() => vi.restoreAllMocks());

async function getHost(): Promise<Host> {
  const response = await call("GET", PATH);
  expect(response.status).toBe(200);
  return response.json();
}

const setNow = (ms: number) => vi.spyOn(Date, "now").mockReturnValue(ms);

/** A report as the host sends it, signed with its key of a version. */
async function report(version: number, hostId = HOST_ID): Promise<Response> {
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

async function ordersOf(version: number): Promise<HostOrders> {
  const response = await report(version);
  expect(response.status).toBe(200);
  return response.json();
}

async function rotate(json?: object, headers: Record<string, string> = {}) {
  const response = await call("POST", `${PATH}/rotate-key`, { ...(json && { json }), headers });
  expect(response.status).toBe(202);
  return (await response.json()) as { host_id: string; next_key_version: number; token?: string };
}

describe("a host", () => {
  it("is shown with what it says of itself", async () => {
    const info: HostInfo = {
      ...hostInfo(HOST_ID),
      capacity: { cpu: 8, cpu_overcommit: 2, memory: 1024, disk: 2048, gpus: [] },
      region: "eu-1",
      labels: { rack: "7" },
    };
    await new HostCatalog(env.DB).report({ url: "http://127.0.0.1:9", info, containers: [] }, Date.now());
    const { capacity, region, labels } = info;
    expect(await getHost()).toMatchObject({ draining: false, capacity, region, labels, key_version: 1 });
  });

  it("waits, is alive, suspect and lost", async () => {
    const created = (await (await call("POST", "/v1/hosts", { json: { name: "new" } })).json()) as Host;
    const waiting = await (await call("GET", `/v1/hosts/${created.host_id}`)).json();
    expect(waiting).toMatchObject({ state: "waiting", draining: false, key_version: 1 });
    const now = Date.now();
    await connectHost(HOST_ID, now);
    for (const [silentMs, state] of [
      [15_000, "alive"],
      [15_001, "suspect"],
      [300_000, "suspect"],
      [300_001, "lost"],
    ] as const) {
      setNow(now + silentMs);
      expect((await getHost()).state, String(silentMs)).toBe(state);
      const { data } = (await (await call("GET", "/v1/hosts")).json()) as { data: Host[] };
      expect(data.find(({ host_id }) => host_id === HOST_ID)?.state).toBe(state);
    }
  });

  it("is renamed and drained, each by itself", async () => {
    const before = await getHost();
    const patch = async (json: object) => (await (await call("PATCH", PATH, { json })).json()) as Host;
    expect(await patch({})).toEqual(before);
    expect(await patch({ name: "box" })).toEqual({ ...before, name: "box" });
    expect(await patch({ draining: true })).toEqual({ ...before, name: "box", draining: true });
    expect(await patch({ name: "box-2" })).toMatchObject({ name: "box-2", draining: true });
    expect(await patch({ draining: false })).toMatchObject({ name: "box-2", draining: false });
  });

  it("keeps its name and drains on over its reports", async () => {
    await call("PATCH", PATH, { json: { name: "box", draining: true } });
    await ordersOf(1);
    expect(await getHost()).toMatchObject({ name: "box", draining: true, state: "alive" });
  });

  it("is patched with what it has only, and where it is", async () => {
    for (const json of [{ url: "http://x" }, { draining: "yes" }, { name: "" }, { key_version: 2 }, { draining: null }])
      expect(await problemOf(await call("PATCH", PATH, { json }))).toMatchObject({ status: 400 });
    const unknown = `/v1/hosts/${OTHER_HOST_ID}`;
    expect((await call("PATCH", unknown, { json: {} })).status).toBe(404);
    expect((await call("PATCH", unknown, { json: { draining: true } })).status).toBe(404);
    await call("DELETE", PATH);
    expect((await call("PATCH", PATH, { json: {} })).status).toBe(404);
    expect((await call("PATCH", PATH, { json: { draining: true } })).status).toBe(404);
    expect((await call("POST", `${PATH}/rotate-key`)).status).toBe(404);
  });

  it("belongs to admins of the main environment", async () => {
    const { key } = await newKey(["admin"], "team");
    for (const [method, path, json] of [
      ["GET", PATH, undefined],
      ["PATCH", PATH, { draining: true }],
      ["POST", `${PATH}/rotate-key`, { revoke: true }],
    ] as const) {
      expect((await call(method, path, { key, ...(json && { json }) })).status).toBe(403);
    }
    expect(await getHost()).toMatchObject({ draining: false, key_version: 1 });
    expect((await getHost()).next_key_version).toBeUndefined();
  });
});

describe("a draining host", () => {
  const exec = (id: string) => call("POST", `/v1/sandboxes/${id}/exec`, { json: { command: ["true"] } });
  const hostOf = async (id: string) =>
    (await env.DB.prepare("SELECT host_id FROM sandboxes WHERE sandbox_id = ?").bind(id).first("host_id")) as string;

  it("gets no new sandboxes, and goes on with those that it has", async () => {
    const old = await startSandbox({});
    expect((await call("PATCH", PATH, { json: { draining: true } })).status).toBe(200);
    expect((await exec(old)).status).toBe(200);
    const waiting = await call("POST", "/v1/sandboxes", { json: {} });
    expect(waiting.status).toBe(201);
    const { sandbox_id: id } = (await waiting.json()) as { sandbox_id: string };
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await getSandbox(id)).toMatchObject({ state: "created" });
    await connectHost(OTHER_HOST_ID);
    await vi.waitFor(async () => expect((await getSandbox(id)).state).toBe("ready"), { timeout: 8_000 });
    expect(await hostOf(id)).toBe(OTHER_HOST_ID);
    expect(await hostOf(old)).toBe(HOST_ID);
    expect((await exec(old)).status).toBe(200);
  });
});

describe("a host's key", () => {
  it("of the first version is what it has always been", async () => {
    const { signature } = await sign("sandbar-host:ho-x");
    expect(await deriveHostKey(env.SIGNING_SECRET, "ho-x")).toBe(signature);
    expect(await deriveHostKey(env.SIGNING_SECRET, "ho-x", 1)).toBe(signature);
    const later = await Promise.all([2, 3].map((version) => deriveHostKey(env.SIGNING_SECRET, "ho-x", version)));
    expect(new Set([...later, signature]).size).toBe(3);
  });

  it("is handed over, until the host reports with it", async () => {
    expect(await ordersOf(1)).not.toHaveProperty("key");
    expect(await rotate()).toEqual({ host_id: HOST_ID, next_key_version: 2 });
    expect(await getHost()).toMatchObject({ key_version: 1, next_key_version: 2 });
    const key = { version: 2, key: await deriveHostKey(env.SIGNING_SECRET, HOST_ID, 2) };
    // Again, since the host may not have got the first answer.
    for (const _ of [1, 2]) expect((await ordersOf(1)).key).toEqual(key);
    expect(await ordersOf(2)).not.toHaveProperty("key");
    const host = await getHost();
    expect(host).toMatchObject({ key_version: 2, state: "alive" });
    expect(host).not.toHaveProperty("next_key_version");
  });

  it("takes over while what the old one signed is still good, and then alone", async () => {
    const now = Date.now();
    setNow(now);
    await rotate({});
    await ordersOf(1);
    await ordersOf(2);
    expect((await report(1)).status).toBe(200);
    setNow(now + 89_000);
    await ordersOf(2);
    expect((await report(1)).status).toBe(200);
    setNow(now + 90_000);
    // Only a report under the new one retires the old.
    expect((await report(1)).status).toBe(200);
    await ordersOf(2);
    expect(await problemOf(await report(1))).toMatchObject({ status: 401, code: "unauthenticated" });
    expect(await ordersOf(2)).not.toHaveProperty("key");
  });

  it("is never one that was not given out", async () => {
    expect(await problemOf(await report(2))).toMatchObject({ status: 401 });
    await rotate();
    await ordersOf(2);
    expect(await problemOf(await report(3))).toMatchObject({ status: 401 });
    expect(await problemOf(await report(2, OTHER_HOST_ID))).toMatchObject({ status: 401 });
    expect((await report(1, OTHER_HOST_ID)).status).toBe(200);
  });

  it("rotated again before it was handed over is the newest", async () => {
    await rotate();
    expect(await rotate()).toMatchObject({ next_key_version: 3 });
    expect((await ordersOf(1)).key).toMatchObject({ version: 3 });
    await ordersOf(3);
    expect(await getHost()).toMatchObject({ key_version: 3 });
  });

  it("that is rotated while it is handed over is handed over twice", async () => {
    await rotate();
    expect((await ordersOf(1)).key).toMatchObject({ version: 2 });
    await rotate();
    expect((await ordersOf(2)).key).toMatchObject({ version: 3 });
    expect(await getHost()).toMatchObject({ key_version: 2, next_key_version: 3 });
  });

  it("that is revoked is refused at once, and the host is joined anew", async () => {
    await rotate();
    await ordersOf(2);
    const { token, next_key_version } = await rotate({ revoke: true });
    expect(next_key_version).toBe(3);
    for (const version of [1, 2]) {
      const refused = await problemOf(await report(version));
      expect(refused).toMatchObject({ status: 401, code: "unauthenticated" });
    }
    expect(await getHost()).toMatchObject({ key_version: 2, next_key_version: 3 });
    const hostKey = await deriveHostKey(env.SIGNING_SECRET, HOST_ID, 3);
    expect(parseJoinToken(token!)).toEqual({ hostId: HOST_ID, keyVersion: 3, hostKey });
    await ordersOf(3);
    expect(await getHost()).toMatchObject({ key_version: 3 });
  });

  it("is rotated once per Idempotency-Key, and the token kept unreadable", async () => {
    const headers = { "idempotency-key": "revoke-it" };
    const first = await rotate({ revoke: true }, headers);
    expect(await rotate({ revoke: true }, headers)).toEqual(first);
    expect(await getHost()).toMatchObject({ next_key_version: 2 });
    const { results } = await env.DB.prepare("SELECT * FROM idempotency_keys").all();
    expect(JSON.stringify(results)).not.toContain(parseJoinToken(first.token!)!.hostKey);
    const other = await call("POST", `${PATH}/rotate-key`, { json: { revoke: false }, headers });
    expect(await problemOf(other)).toMatchObject({ status: 409, code: "idempotency_conflict" });
  });

  it("takes nothing but `revoke`", async () => {
    for (const json of [{ revoke: 1 }, { version: 7 }, []])
      expect((await call("POST", `${PATH}/rotate-key`, { json })).status).toBe(400);
    expect((await getHost()).next_key_version).toBeUndefined();
  });

  it("of a host that was removed is refused, however new", async () => {
    await rotate();
    await call("DELETE", PATH);
    for (const version of [1, 2])
      expect(await problemOf(await report(version))).toMatchObject({ status: 403, code: "forbidden" });
  });

  it("cannot be judged while the catalog is away", async () => {
    await env.DB.exec("ALTER TABLE hosts RENAME TO hosts_away");
    try {
      const response = await report(1);
      expect(response.headers.get("retry-after")).toBeTruthy();
      expect(await problemOf(response)).toMatchObject({ status: 503, code: "catalog_unavailable" });
      const unsigned = await call("POST", `${PATH}/report`, { key: null, json: {} });
      expect(unsigned.status).toBe(401);
    } finally {
      await env.DB.exec("ALTER TABLE hosts_away RENAME TO hosts");
    }
  });
});

/** HMAC-SHA-256 under the signing secret, base64url. */
async function sign(text: string): Promise<{ signature: string }> {
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(env.SIGNING_SECRET), algorithm, false, ["sign"]);
  const bytes = new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(text)));
  const signature = btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
  return { signature };
}
