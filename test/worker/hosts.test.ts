import { env } from "cloudflare:test";
import { describe, expect, it, vi } from "vitest";
import { HostCatalog } from "../../src/catalog/hosts.ts";
import type { Host } from "../../src/contract/host.ts";
import type { HostInfo } from "../../src/contract/host-info.ts";
import { call, connectHost, HOST_ID, hostInfo, newKey, problemOf } from "./client.ts";
import { getSandbox, startSandbox } from "./sandboxes.ts";
import { OTHER_HOST_ID, PATH, getHost, setNow, ordersOf, withOneHost } from "./host-calls.ts";

withOneHost();

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
