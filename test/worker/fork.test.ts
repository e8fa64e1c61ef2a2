import { env } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import type { Image } from "../../src/contract/image.ts";
import type { Fork } from "../../src/contract/snapshot.ts";
import { pushImage } from "../fake/fake-push.ts";
import { ADMIN_KEY, call, connectHost, newKey, ORIGIN, problemOf, send } from "./client.ts";
import { getSandbox, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
});

const fork = (sandboxId: string, json?: object, headers = {}) =>
  call("POST", `/v1/sandboxes/${sandboxId}/fork`, { ...(json && { json }), headers });
const read = async (sandboxId: string, path: string) =>
  (await call("GET", `/v1/sandboxes/${sandboxId}/files?path=${path}`)).text();

describe("a fork", () => {
  it("makes sandboxes that share one image and are made as the first one was", async () => {
    const first = await startSandbox({
      name: "the-first",
      env: { A: "b" },
      tags: { t: "1" },
      timeout: 77,
      workdir: "/w",
    });
    await call("PUT", `/v1/sandboxes/${first}/files?path=/data/a`, { body: "kept" });
    const answer = await fork(first, { count: 3, ttl: 600 });
    expect(answer.status).toBe(201);
    const { image_id: imageId, data } = (await answer.json()) as Fork;
    expect(data).toHaveLength(3);
    for (const { sandbox_id: id, ...one } of data) {
      expect(one).toMatchObject({ image: imageId, tags: { t: "1" }, timeout: 77, workdir: "/w" });
      expect(one).not.toHaveProperty("name");
      expect(await read(id, "/data/a")).toBe("kept");
      expect(fakeHost.containers.get(id)!.spec.env).toEqual({ A: "b" });
    }
    const image = (await (await call("GET", `/v1/images/${imageId}`)).json()) as Image;
    expect(Date.parse(image.expires_at!) - Date.parse(image.created_at)).toBe(600_000);
    expect((await getSandbox(first)).state).toBe("ready");
    await Promise.all([first, ...data.map((one) => one.sandbox_id)].map(terminate));
  });

  it("is one without a body, and the same again under its idempotency key", async () => {
    const first = await startSandbox();
    const headers = { "idempotency-key": crypto.randomUUID() };
    const answers = await Promise.all([1, 2, 3].map(async () => (await fork(first, undefined, headers)).text()));
    expect(new Set(answers).size).toBe(1);
    expect((JSON.parse(answers[0]!) as Fork).data).toHaveLength(1);
  });

  it("is refused of what has ended, of another environment's, and of nothing", async () => {
    const first = await startSandbox();
    const { key } = await newKey(["write"], "stranger");
    const stolen = await call("POST", `/v1/sandboxes/${first}/fork`, { key, json: {} });
    expect(await problemOf(stolen)).toMatchObject({ status: 404, code: "sandbox_not_found" });
    await terminate(first);
    expect(await problemOf(await fork(first, {}))).toMatchObject({ status: 409, code: "sandbox_ended" });
    expect((await fork("sb-aaaaaaaaaaaaaaaaaaaaaa", {})).status).toBe(404);
  });
});

describe("snapshot_on_end", () => {
  const endImageOf = async (sandboxId: string) => (await getSandbox(sandboxId)).image_id;
  const imageOf = async (imageId: string): Promise<Image> => (await call("GET", `/v1/images/${imageId}`)).json();

  it.each([{ timeout: 1 }, { idle_timeout: 1 }])("keeps the filesystem of one that ends by %j", async (limit) => {
    const sandboxId = await startSandbox({ snapshot_on_end: true, ...limit });
    await call("PUT", `/v1/sandboxes/${sandboxId}/files?path=/data/a`, { body: "kept" });
    expect(await endImageOf(sandboxId)).toBeUndefined();
    await expect.poll(() => endImageOf(sandboxId), { timeout: 5000 }).toMatch(/^im-/);
    const imageId = (await endImageOf(sandboxId))!;
    await expect.poll(async () => (await imageOf(imageId)).status, { timeout: 5000 }).toBe("ready");
    expect(await imageOf(imageId)).toMatchObject({ sandbox_id: sandboxId, parent: "fake" });
    await expect.poll(() => fakeHost.containers.has(sandboxId)).toBe(false);
    const copy = await startSandbox({ image: imageId });
    expect(await read(copy, "/data/a")).toBe("kept");
  });

  it("keeps nothing of one that ends otherwise, and nothing that was not asked for", async () => {
    const [ended, silent] = await Promise.all([startSandbox({ snapshot_on_end: true }), startSandbox({ timeout: 1 })]);
    await terminate(ended);
    await expect.poll(async () => (await getSandbox(silent)).state, { timeout: 5000 }).toBe("terminated");
    for (const one of [ended, silent]) expect(await endImageOf(one)).toBeUndefined();
    const { data } = (await (await call("GET", "/v1/images")).json()) as { data: Image[] };
    expect(data.filter(({ sandbox_id }) => [ended, silent].includes(sandbox_id))).toEqual([]);
  });

  it("removes no container before its filesystem is kept, however long its host is away", async () => {
    const sandboxId = await startSandbox({ snapshot_on_end: true, timeout: 1 });
    fakeHost.isDown = true;
    await expect.poll(() => endImageOf(sandboxId), { timeout: 8000 }).toMatch(/^im-/);
    const imageId = (await endImageOf(sandboxId))!;
    await new Promise((wake) => setTimeout(wake, 1000));
    expect((await imageOf(imageId)).status).toBe("pending");
    expect(fakeHost.containers.has(sandboxId)).toBe(true);
    fakeHost.isDown = false;
    await expect.poll(async () => (await imageOf(imageId)).status, { timeout: 15_000 }).toBe("ready");
    await expect.poll(() => fakeHost.containers.has(sandboxId)).toBe(false);
  }, 30_000);
});

describe("an image that was pushed", () => {
  const put = async (repository: string, tag: string, text: string) =>
    pushImage((path, init) => send(new Request(ORIGIN + path, init)), { repository, tag, token: ADMIN_KEY }, [
      new TextEncoder().encode(text),
    ]);
  const create = (image: string, key?: string) =>
    call("POST", "/v1/sandboxes", { json: { image }, ...(key && { key }) });
  const sourceOf = async (image: string) => {
    const response = await create(image);
    expect(response.status, await response.clone().text()).toBe(201);
    const { sandbox_id: id } = (await response.json()) as { sandbox_id: string };
    await expect.poll(() => fakeHost.containers.has(id)).toBe(true);
    expect((await getSandbox(id)).image).toBe(image.replace("api.test/", ""));
    return fakeHost.containers.get(id)!.spec.image_source!;
  };

  it("is started by its reference, as it is at the create, with a grant for it alone", async () => {
    await put("main/app", "1", "one");
    const one = await sourceOf("main/app:1");
    await put("main/app", "1", "two");
    const two = await sourceOf("api.test/main/app:1");
    expect(one.repository).toBe("main/app");
    expect(two.digest).not.toBe(one.digest);
    expect((await sourceOf(`main/app@${one.digest}`)).digest).toBe(one.digest);
    const pull = (repository: string) =>
      send(
        new Request(`${ORIGIN}/v2/${repository}/manifests/${one.digest}`, {
          headers: { authorization: `Bearer ${one.token}` },
        }),
      );
    expect((await pull("main/app")).status).toBe(200);
    await put("main/other", "1", "one");
    expect((await pull("main/other")).status).not.toBe(200);
  });

  it("is not there for others, nor where there is none", async () => {
    await put("main/mine", "latest", "x");
    await sourceOf("main/mine");
    for (const image of ["main/mine:2", "main/none", "main/UP", "main/"]) {
      expect(await problemOf(await create(image)), image).toMatchObject({ status: 404, code: "image_not_found" });
    }
    // To anybody else it is a name like any other: some registry's, which a host may or may not reach.
    const { key } = await newKey(["write"], "stranger");
    const { sandbox_id: id } = (await (await create("main/mine", key)).json()) as { sandbox_id: string };
    await expect.poll(() => fakeHost.containers.get(id)?.spec.image_source).toBeUndefined();
  });

  it("is listed by its reference", async () => {
    await env.DB.exec("SELECT 1");
    for (const name of ["a", "b", "c"]) await put(`main/listed-${name}`, "1", name);
    const page = async (query: string, key = ADMIN_KEY) =>
      (await call("GET", `/v1/images?kind=pushed&${query}`, { key })).json() as Promise<{
        data: { reference: string; kind: string; size: number }[];
        next_cursor?: string;
      }>;
    const all = (await page("")).data.map(({ reference }) => reference);
    expect(all.filter((one) => one.includes("listed"))).toEqual(["a", "b", "c"].map((name) => `main/listed-${name}:1`));
    const first = await page("limit=1");
    expect(first).toMatchObject({ data: [{ reference: all[0], kind: "pushed" }], next_cursor: all[0] });
    expect((await page(`limit=1000&cursor=${all[0]}`)).data.map((one) => one.reference)).toEqual(all.slice(1));
    const { key } = await newKey(["read"], "stranger");
    expect((await page("", key)).data).toEqual([]);
  });
});
