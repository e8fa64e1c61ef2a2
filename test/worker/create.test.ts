import { env } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { openPlacement } from "../../src/placement/client.ts";
import { CONTROL_PLANE_AUDIENCE, parseJoinToken, signRequest } from "../../src/contract/host-token.ts";
import { call, connectHost, HOST_ID, newKey, ORIGIN, problemOf, send, forgetHosts } from "./client.ts";

const create = async (json: object): Promise<Sandbox> => {
  const response = await call("POST", "/v1/sandboxes", { json });
  if (response.status !== 201) throw new Error(await response.text());
  return response.json();
};

beforeEach(async () => {
  await forgetHosts();
  await connectHost();
});

describe("create", () => {
  it("answers the sandbox, where it is, and what it will run", async () => {
    const response = await call("POST", "/v1/sandboxes", { json: { tags: { team: "a" }, gpu: undefined } });
    const sandbox = (await response.json()) as Sandbox;
    expect(response.status).toBe(201);
    expect(response.headers.get("location")).toBe(`/v1/sandboxes/${sandbox.sandbox_id}`);
    expect(sandbox).toMatchObject({ image: "fake", backend: "docker", timeout: 300, tags: { team: "a" } });
    const listed = (await (await call("GET", "/v1/sandboxes?tag=team=a")).json()) as { data: Sandbox[] };
    expect(listed.data.map(({ sandbox_id }) => sandbox_id)).toEqual([sandbox.sandbox_id]);
  });

  it("refuses what no host can do, naming the field", async () => {
    const problem = await problemOf(await call("POST", "/v1/sandboxes", { json: { gpu: "H100" } }));
    expect(problem).toMatchObject({ status: 422, code: "unsupported_by_backend", errors: [{ path: "gpu" }] });
    const cloudflare = await problemOf(await call("POST", "/v1/sandboxes", { json: { backend: "cloudflare" } }));
    expect(cloudflare).toMatchObject({ status: 422, errors: [{ path: "backend" }] });
  });

  it("lets a sandbox wait while there is no host", async () => {
    await forgetHosts();
    const sandbox = await create({ gpu: "h100" });
    expect(sandbox).toMatchObject({ state: "created", gpu: "H100", image: "debian:bookworm-slim" });
    expect((await call("DELETE", `/v1/sandboxes/${sandbox.sandbox_id}`)).status).toBe(204);
  });

  it("makes one sandbox of a request that is repeated", async () => {
    const headers = { "idempotency-key": "create-1" };
    const [first, second] = [
      await call("POST", "/v1/sandboxes", { json: { app_id: "once" }, headers }),
      await call("POST", "/v1/sandboxes", { json: { app_id: "once" }, headers }),
    ];
    expect(await second.json()).toEqual(await first.json());
    expect(second.headers.get("location")).toBe(first.headers.get("location"));
    const listed = (await (await call("GET", "/v1/sandboxes?app_id=once")).json()) as { data: Sandbox[] };
    expect(listed.data).toHaveLength(1);
  });
});

describe("names that objects do not keep", () => {
  it.each(['{"env":{"__proto__":"x"}}', '{"tags":{"\\u005f_proto__":"x"}}'])("are refused: %s", async (body) => {
    const response = await call("POST", "/v1/sandboxes", { body, headers: { "content-type": "application/json" } });
    expect(await problemOf(response)).toMatchObject({ status: 400, errors: [{ path: "__proto__" }] });
  });
});

describe("images", () => {
  it("are snapshots, of their own environment, that a create takes", async () => {
    const sandbox = await create({});
    const put = await call("PUT", `/v1/sandboxes/${sandbox.sandbox_id}/files?path=/data/a`, { body: "kept" });
    expect(put.status).toBe(204);
    const taken = await call("POST", `/v1/sandboxes/${sandbox.sandbox_id}/snapshot`, { json: { name: "base" } });
    expect(taken.status).toBe(200);
    const image = (await taken.json()) as { image_id: string };
    expect(image).toMatchObject({
      image_id: expect.stringMatching(/^im-/),
      sandbox_id: sandbox.sandbox_id,
      name: "base",
    });
    expect(await (await call("GET", `/v1/images/${image.image_id}`)).json()).toEqual(image);
    expect(await (await call("GET", "/v1/images")).json()).toEqual({ data: [image] });

    const copy = await create({ image: image.image_id });
    const read = await call("GET", `/v1/sandboxes/${copy.sandbox_id}/files?path=/data/a`);
    expect(await read.text()).toBe("kept");

    const { key } = await newKey(["write"], "stranger");
    const stolen = await call("POST", "/v1/sandboxes", { key, json: { image: image.image_id } });
    expect(await problemOf(stolen)).toMatchObject({ status: 404, code: "image_not_found" });

    // The host counts as connected and does not answer: it is told to remove its copy when it reports.
    expect((await call("DELETE", `/v1/images/${image.image_id}`)).status).toBe(204);
    expect((await call("DELETE", `/v1/images/${image.image_id}`)).status).toBe(404);
  });

  it("are made by a snapshot without a body", async () => {
    const sandbox = await create({});
    const path = `/v1/sandboxes/${sandbox.sandbox_id}/snapshot`;
    expect((await call("POST", path)).status).toBe(200);
    expect((await call("POST", path, { headers: { "content-type": "application/json" } })).status).toBe(200);
  });
});

describe("files", () => {
  it("stream in and out, whole and in ranges, with their length", async () => {
    const { sandbox_id } = await create({});
    const path = `/v1/sandboxes/${sandbox_id}/files?path=/data/f`;
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    expect(
      (await call("PUT", path, { body: bytes, headers: { "content-type": "application/octet-stream" } })).status,
    ).toBe(204);
    const whole = await call("GET", path);
    expect(whole.headers.get("content-length")).toBe("60000");
    expect(whole.headers.get("content-type")).toBe("application/octet-stream");
    expect(whole.headers.get("x-content-type-options")).toBe("nosniff");
    expect(new Uint8Array(await whole.arrayBuffer())).toEqual(bytes);
    const part = await call("GET", path, { headers: { range: "bytes=100-199" } });
    expect(part.status).toBe(206);
    expect(part.headers.get("content-range")).toBe("bytes 100-199/60000");
    expect(new Uint8Array(await part.arrayBuffer())).toEqual(bytes.slice(100, 200));
    const tail = await call("GET", path, { headers: { range: "bytes=-10" } });
    expect(new Uint8Array(await tail.arrayBuffer())).toEqual(bytes.slice(-10));
    const beyond = await call("GET", path, { headers: { range: "bytes=60000-" } });
    expect(await problemOf(beyond)).toMatchObject({ status: 416 });
  });

  it("may be empty", async () => {
    const { sandbox_id } = await create({});
    const path = `/v1/sandboxes/${sandbox_id}/files?path=/empty`;
    expect((await call("PUT", path)).status).toBe(204);
    const read = await call("GET", path);
    expect([read.status, await read.text()]).toEqual([200, ""]);
  });
});

describe("hosts", () => {
  it("join with a token, report under their own signature, and are gone when removed", async () => {
    const created = await call("POST", "/v1/hosts", { json: { name: "rack-1" } });
    expect(created.status).toBe(201);
    const { host_id, token } = (await created.json()) as { host_id: string; token: string };
    const { hostId, hostKey } = parseJoinToken(token)!;
    expect(hostId).toBe(host_id);
    const capabilities = { cpu_limit: true, memory_limit: true, gpu: true, raw_tcp: true, exec_user: true, pty: true };
    const info = { host_id, version: "1", runtime: "docker", default_image: "d", capabilities };
    const report = async (path = `/v1/hosts/${host_id}/report`, signed = path, body: object = info) =>
      send(
        new Request(ORIGIN + path, {
          method: "POST",
          headers: {
            authorization: await signRequest(hostKey, CONTROL_PLANE_AUDIENCE, "POST", signed),
            "content-type": "application/json",
          },
          body: JSON.stringify({ url: "http://10.0.0.1:7070", info: body, containers: [] }),
        }),
      );
    const hosts = async () =>
      ((await (await call("GET", "/v1/hosts")).json()) as { data: { host_id: string; state: string }[] }).data;
    expect(await hosts()).toContainEqual(expect.objectContaining({ host_id, name: "rack-1", state: "waiting" }));
    const answered = await report();
    expect([answered.status, await answered.json()]).toEqual([200, { reap: [] }]);
    expect(await hosts()).toContainEqual(expect.objectContaining({ host_id, name: "rack-1", state: "alive" }));
    expect((await report(`/v1/hosts/${HOST_ID}/report`)).status).toBe(401);
    expect((await report(`/v1/hosts/${host_id}/report`, "/v1/hosts")).status).toBe(401);
    expect((await report(undefined, undefined, { ...info, host_id: HOST_ID })).status).toBe(400);
    expect((await call("DELETE", `/v1/hosts/${host_id}`)).status).toBe(204);
    expect((await report()).status).toBe(403);
    expect(await openPlacement(env).locate(host_id)).toBeUndefined();
    expect(await openPlacement(env).locate(HOST_ID)).toMatchObject({ hostId: HOST_ID });
  });
});

describe("a host name of a tunnel", () => {
  const get = (host: string) => send(new Request(`http://${host}/v1/sandboxes`));

  it.each([
    "x.localhost",
    "80-sb-short.localhost",
    "0-sb-aaaaaaaaaaaaaaaaaaaaaa.localhost",
    "65536-sb-aaaaaaaaaaaaaaaaaaaaaa.localhost",
    "a.80-sb-aaaaaaaaaaaaaaaaaaaaaa.localhost",
    "-sb-aaaaaaaaaaaaaaaaaaaaaa.localhost",
  ])("that is malformed leads nowhere, not to the API: %s", async (host) => {
    expect(await problemOf(await get(host))).toMatchObject({ status: 404, code: "not_found" });
  });

  it("leads to the sandbox's own object, never to the API", async () => {
    const response = await get("8080-sb-aaaaaaaaaaaaaaaaaaaaaa.localhost:8787");
    expect(await problemOf(response)).toMatchObject({ status: 404, code: "sandbox_not_found" });
  });

  it("takes the request to the port, without anything that could pass for ours", async () => {
    const { sandbox_id } = await create({ encrypted_ports: [8080] });
    const started = await call("POST", `/v1/sandboxes/${sandbox_id}/exec`, { json: { command: ["serve", "8080"] } });
    expect(started.status).toBe(200);
    const headers = { "x-sandbar-target": "/forged", "x-sandbar-call": "{}", "x-mine": "kept" };
    const response = await send(new Request(`http://8080-${sandbox_id}.localhost/page`, { headers }));
    expect([response.headers.get("x-fake-port"), await response.text()]).toEqual(["8080", "GET /page"]);
    expect(response.headers.get("x-fake-headers")).toContain("x-mine");
    expect(response.headers.get("x-fake-headers")).not.toContain("x-sandbar");
  });

  it("is that of no other domain", async () => {
    expect((await get("8080-sb-aaaaaaaaaaaaaaaaaaaaaa.example.com")).status).toBe(401);
  });
});
