import { abortAllDurableObjects, env } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { ImageCatalog } from "../../src/catalog/images.ts";
import { ApiError } from "../../src/contract/errors.ts";
import { CONTROL_PLANE_AUDIENCE, deriveHostKey, signRequest } from "../../src/contract/host-token.ts";
import type { Image } from "../../src/contract/image.ts";
import { openRegistry } from "../../src/registry/client.ts";
import { call, connectHost, forgetHost, HOST_ID, hostInfo, newKey, problemOf, reportHost } from "./client.ts";
import { getSandbox, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

const push = fakeHost.push!;

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.push = push;
  await connectHost();
});

const snapshot = (sandboxId: string, json: object = {}, headers = {}) =>
  call("POST", `/v1/sandboxes/${sandboxId}/snapshot`, { json, headers });
const ASYNC = { prefer: "respond-async" };
const imageOf = async (imageId: string): Promise<Image> => (await call("GET", `/v1/images/${imageId}`)).json();
/** What a host that has these images is told. */
async function report(images: string[]): Promise<unknown> {
  const hostId = "ho-cccccccccccccccccccccc";
  const path = `/v1/hosts/${hostId}/report`;
  const key = await deriveHostKey(env.SIGNING_SECRET, hostId);
  const authorization = await signRequest(key, CONTROL_PLANE_AUDIENCE, "POST", path);
  const json = { url: "http://127.0.0.1:9", info: hostInfo(hostId), containers: [], images };
  return (await call("POST", path, { json, headers: { authorization } })).json();
}
const inRegistry = (imageId: string) => openRegistry(env, "main").resolve("main/snapshots", { tag: imageId });

describe("a snapshot", () => {
  it("is in the registry, with its size and digest, and is told of", async () => {
    const sandboxId = await startSandbox();
    await call("PUT", `/v1/sandboxes/${sandboxId}/files?path=/data/a`, { body: "kept" });
    const image = (await (await snapshot(sandboxId, { name: "base" })).json()) as Image;
    const stored = await inRegistry(image.image_id);
    expect(stored!.size).toBeGreaterThan(0);
    expect(image).toEqual({
      image_id: image.image_id,
      kind: "snapshot",
      status: "ready",
      backend: "docker",
      runtime: "docker",
      sandbox_id: sandboxId,
      parent: "fake",
      name: "base",
      reference: `main/snapshots:${image.image_id}`,
      digest: stored!.digest,
      size: stored!.size,
      created_at: image.created_at,
      expires_at: new Date(Date.parse(image.created_at) + 30 * 86_400_000).toISOString(),
    });
    const child = await startSandbox({ image: image.image_id });
    expect(((await (await snapshot(child)).json()) as Image).parent).toBe(image.image_id);
  });

  it("starts on another host when its own has gone", async () => {
    const sandboxId = await startSandbox();
    await call("PUT", `/v1/sandboxes/${sandboxId}/files?path=/data/a`, { body: "kept" });
    const { image_id: imageId } = (await (await snapshot(sandboxId)).json()) as Image;
    await connectHost(HOST_ID, Date.now() - 60_000);
    await connectHost("ho-bbbbbbbbbbbbbbbbbbbbbb");
    const copy = await startSandbox({ image: imageId });
    expect(fakeHost.containers.get(copy)!.spec.image_source).toMatchObject({
      repository: "main/snapshots",
      digest: (await imageOf(imageId)).digest,
    });
    await forgetHost("ho-bbbbbbbbbbbbbbbbbbbbbb");
  });

  it("starts where it was made before it is pulled elsewhere, unless there is no room", async () => {
    const second = "ho-dddddddddddddddddddddd";
    const sandboxId = await startSandbox();
    const { image_id: imageId } = (await (await snapshot(sandboxId)).json()) as Image;
    const capacity = { cpu: 1000, cpu_overcommit: 1, memory: 100_000, disk: 100_000, gpus: [] };
    for (const hostId of [HOST_ID, second])
      await reportHost({ url: "http://127.0.0.1:9", info: { ...hostInfo(hostId), capacity }, containers: [] });
    const hostOf = async (id: string) => {
      const events = await (await call("GET", `/v1/sandboxes/${id}/events?follow=false`)).text();
      return /"host_id":"(ho-[a-z]+)"/.exec(events)?.[1];
    };
    const ids = [];
    for (const hostId of [HOST_ID, HOST_ID, second]) {
      ids.push(await startSandbox({ image: imageId, memory: 40_000 }));
      expect(await hostOf(ids.at(-1)!)).toBe(hostId);
    }
    await Promise.all(ids.map((id) => terminate(id)));
    await forgetHost(second);
    await connectHost();
  });

  it.each([
    [null, undefined],
    [60, 60_000],
  ])("lives for its ttl: %s", async (ttl, ms) => {
    const sandboxId = await startSandbox();
    const image = (await (await snapshot(sandboxId, { ttl })).json()) as Image;
    const lives = image.expires_at && Date.parse(image.expires_at) - Date.parse(image.created_at);
    expect(lives).toBe(ms);
    if (ms === undefined) return;
    const images = new ImageCatalog(env.DB);
    expect(await images.find("main", image.image_id, Date.now() + ms)).toBeUndefined();
    expect(await images.expired("main", Date.now() + ms, 10)).toContain(image.image_id);
  });

  it("that is asked for with respond-async is answered before it is made", async () => {
    const sandboxId = await startSandbox();
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    fakeHost.push = async (...args) => (await held, push(...args));
    const answer = await snapshot(sandboxId, {}, { prefer: 'handling="lenient", Respond-Async' });
    expect(answer.status).toBe(202);
    const image = (await answer.json()) as Image;
    expect(answer.headers.get("location")).toBe(`/v1/images/${image.image_id}`);
    expect(answer.headers.get("preference-applied")).toBe("respond-async");
    expect(image).toMatchObject({ status: "pending" });
    expect(await problemOf(await call("POST", "/v1/sandboxes", { json: { image: image.image_id } }))).toMatchObject({
      status: 409,
      code: "image_not_ready",
    });
    release();
    await expect.poll(async () => (await imageOf(image.image_id)).status).toBe("ready");
  });

  it("that cannot be stored has failed, with the reason, and can be asked for again", async () => {
    const sandboxId = await startSandbox();
    fakeHost.push = async () => {
      throw new ApiError("snapshot_failed", { detail: "The bucket is on fire." });
    };
    const headers = { "idempotency-key": crypto.randomUUID() };
    const problem = await problemOf(await snapshot(sandboxId, {}, headers));
    expect(problem).toMatchObject({ status: 502, code: "snapshot_failed", detail: "The bucket is on fire." });
    const { data } = (await (await call("GET", "/v1/images?limit=1")).json()) as { data: Image[] };
    expect(data[0]).toMatchObject({ sandbox_id: sandboxId, status: "failed", error: "The bucket is on fire." });
    const imageId = data[0]!.image_id;
    expect(await inRegistry(imageId)).toBeUndefined();
    expect(await problemOf(await call("POST", "/v1/sandboxes", { json: { image: imageId } }))).toMatchObject({
      code: "image_not_ready",
      detail: expect.stringContaining("on fire"),
    });
    fakeHost.push = push;
    expect(await (await snapshot(sandboxId, {}, headers)).json()).toMatchObject({ image_id: imageId, status: "ready" });
    expect(await imageOf(imageId)).not.toHaveProperty("error");
  });

  it("is not believed to be stored because the host says so", async () => {
    const sandboxId = await startSandbox();
    fakeHost.push = async () => undefined;
    expect(await problemOf(await snapshot(sandboxId))).toMatchObject({ status: 502, code: "snapshot_failed" });
  });

  it("waits for a host that is away, and goes on where the object was lost", async () => {
    const sandboxId = await startSandbox();
    fakeHost.isDown = true;
    const { image_id: imageId } = (await (await snapshot(sandboxId, {}, ASYNC)).json()) as Image;
    await new Promise((wake) => setTimeout(wake, 500));
    expect((await imageOf(imageId)).status).toBe("pending");
    await abortAllDurableObjects();
    fakeHost.isDown = false;
    expect((await getSandbox(sandboxId)).state).toBe("ready");
    await expect.poll(async () => (await imageOf(imageId)).status, { timeout: 12_000 }).toBe("ready");
  });

  it("has failed when its sandbox ends before it is made", async () => {
    const sandboxId = await startSandbox();
    fakeHost.isDown = true;
    const { image_id: imageId } = (await (await snapshot(sandboxId, {}, ASYNC)).json()) as Image;
    void terminate(sandboxId);
    await expect.poll(async () => (await imageOf(imageId)).status, { timeout: 10_000 }).toBe("failed");
    expect((await imageOf(imageId)).error).toContain("ended");
  });
});

describe("an image that is deleted", () => {
  it("is gone from the registry and for creates, and a host that still has it is told", async () => {
    const sandboxId = await startSandbox();
    const { image_id: imageId } = (await (await snapshot(sandboxId)).json()) as Image;
    const { key: stranger } = await newKey(["write"], "stranger");
    expect((await call("DELETE", `/v1/images/${imageId}`, { key: stranger })).status).toBe(404);
    expect((await call("DELETE", `/v1/images/${imageId}`)).status).toBe(204);
    expect((await call("DELETE", `/v1/images/${imageId}`)).status).toBe(404);
    expect(await inRegistry(imageId)).toBeUndefined();
    expect((await call("POST", "/v1/sandboxes", { json: { image: imageId } })).status).toBe(404);
    const { image_id: kept } = (await (await snapshot(sandboxId)).json()) as Image;
    expect(await report([imageId, kept])).toEqual({ reap: [], drop_images: [imageId] });
    expect(await report([kept])).toEqual({ reap: [] });
  });

  it("while it is made leaves nothing in the registry", async () => {
    const sandboxId = await startSandbox();
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    fakeHost.push = async (...args) => (await held, push(...args));
    const { image_id: imageId } = (await (await snapshot(sandboxId, {}, ASYNC)).json()) as Image;
    expect((await call("DELETE", `/v1/images/${imageId}`)).status).toBe(204);
    release();
    await expect.poll(async () => fakeHost.images.has(imageId)).toBe(true);
    await new Promise((wake) => setTimeout(wake, 300));
    expect(await inRegistry(imageId)).toBeUndefined();
    expect((await call("GET", `/v1/images/${imageId}`)).status).toBe(404);
  });
});
