import { abortAllDurableObjects, env, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { ImageCatalog } from "../../src/catalog/images.ts";
import { ApiError } from "../../src/contract/errors.ts";
import type { Image } from "../../src/contract/image.ts";
import type { Fork } from "../../src/contract/snapshot.ts";
import { openRegistry } from "../../src/registry/client.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { getSandbox, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

const push = fakeHost.push!;

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.push = push;
  await connectHost();
});

const snapshot = (sandboxId: string, headers = {}) =>
  call("POST", `/v1/sandboxes/${sandboxId}/snapshot`, { json: {}, headers });
const imageOf = async (imageId: string): Promise<Image> => (await call("GET", `/v1/images/${imageId}`)).json();
const digestOf = async (imageId: string) =>
  (await openRegistry(env, "main").resolve("main/snapshots", { tag: imageId }))?.digest;
const jobsOf = (sandboxId: string) =>
  runInDurableObject(objectOf(sandboxId), (_, { storage }) =>
    storage.sql.exec<{ image_id: string; job: string }>("SELECT * FROM snapshots").toArray(),
  );
/** What the object would find had it been lost at that moment. */
const putJob = async (sandboxId: string, imageId: string, job: object) => {
  await runInDurableObject(objectOf(sandboxId), (_, { storage }) => {
    storage.sql.exec("INSERT INTO snapshots VALUES (?, ?)", imageId, JSON.stringify({ imageId, ...job }));
    storage.sql.exec("INSERT OR REPLACE INTO timers VALUES ('snapshot', ?)", Date.now());
  });
  await abortAllDurableObjects();
  // The alarm, which outlives the object.
  await runDurableObjectAlarm(objectOf(sandboxId));
  await runInDurableObject(objectOf(sandboxId), (_, { storage }) => storage.setAlarm(Date.now()));
};
const JOB = { ttl: null, isAtEnd: false, isAdded: true };

describe("a snapshot whose object was lost", () => {
  it("after it was ready, but before that was noted, is not made anew", async () => {
    const sandboxId = await startSandbox();
    const { image_id: imageId, digest } = (await (await snapshot(sandboxId)).json()) as Image;
    let pushes = 0;
    fakeHost.push = async () => void (pushes += 1);
    await putJob(sandboxId, imageId, { ...JOB, begunAt: Date.now() });
    await getSandbox(sandboxId);
    await expect.poll(() => jobsOf(sandboxId), { timeout: 8000 }).toEqual([]);
    expect(pushes).toBe(0);
    expect(await digestOf(imageId)).toBe(digest);
  });

  it("before the catalog had it, is made all the same", async () => {
    const sandboxId = await startSandbox();
    const imageId = `im-${"j".repeat(22)}`;
    await putJob(sandboxId, imageId, { ...JOB, begunAt: Date.now(), isAdded: false });
    await getSandbox(sandboxId);
    await expect.poll(async () => (await imageOf(imageId)).status, { timeout: 8000 }).toBe("ready");
  });

  it("and that was deleted meanwhile does not come back", async () => {
    const sandboxId = await startSandbox();
    const { image_id: imageId } = (await (await snapshot(sandboxId)).json()) as Image;
    await call("DELETE", `/v1/images/${imageId}`);
    await putJob(sandboxId, imageId, { ...JOB, begunAt: Date.now() });
    await getSandbox(sandboxId);
    await expect.poll(() => jobsOf(sandboxId), { timeout: 8000 }).toEqual([]);
    expect((await call("GET", `/v1/images/${imageId}`)).status).toBe(404);
    expect(await digestOf(imageId)).toBeUndefined();
  });
});

describe("a snapshot at the end", () => {
  it("that cannot be stored now is stored later, and its container does not run on for that", async () => {
    fakeHost.push = async () => {
      throw new ApiError("image_not_stored", { detail: "The bucket is on fire." });
    };
    const sandboxId = await startSandbox({ snapshot_on_end: true, timeout: 1 });
    await expect.poll(async () => (await getSandbox(sandboxId)).image_id, { timeout: 8000 }).toMatch(/^im-/);
    const imageId = (await getSandbox(sandboxId)).image_id!;
    await expect.poll(() => fakeHost.containers.has(sandboxId)).toBe(false);
    await new Promise((wake) => setTimeout(wake, 500));
    expect((await imageOf(imageId)).status).toBe("pending");
    fakeHost.push = push;
    await expect.poll(async () => (await imageOf(imageId)).status, { timeout: 12_000 }).toBe("ready");
  });

  it("whose host stays away for a day has failed, and is not pending for ever", async () => {
    const sandboxId = await startSandbox({ snapshot_on_end: true, timeout: 1 });
    fakeHost.isDown = true;
    await expect.poll(async () => (await getSandbox(sandboxId)).image_id, { timeout: 8000 }).toMatch(/^im-/);
    const imageId = (await getSandbox(sandboxId)).image_id!;
    await expect.poll(async () => (await imageOf(imageId)).status).toBe("pending");
    const longAgo = Date.now() - 25 * 3_600_000;
    await runInDurableObject(objectOf(sandboxId), (_, { storage }) => {
      const { job } = storage.sql.exec<{ job: string }>("SELECT job FROM snapshots").one();
      storage.sql.exec("UPDATE snapshots SET job = ?", JSON.stringify({ ...JSON.parse(job), begunAt: longAgo }));
      const { record } = storage.sql.exec<{ record: string }>("SELECT record FROM sandbox").one();
      storage.sql.exec("UPDATE sandbox SET record = ?", JSON.stringify({ ...JSON.parse(record), finishedAt: longAgo }));
      storage.sql.exec("UPDATE timers SET due_at = ? WHERE name = 'cleanup'", Date.now());
    });
    await abortAllDurableObjects();
    await getSandbox(sandboxId);
    await expect.poll(async () => (await imageOf(imageId)).status, { timeout: 12_000 }).toBe("failed");
    await expect.poll(() => jobsOf(sandboxId)).toEqual([]);
  });
});

describe("under an idempotency key", () => {
  it("a snapshot is answered also after its sandbox has ended", async () => {
    const sandboxId = await startSandbox();
    const headers = { "idempotency-key": crypto.randomUUID() };
    const image = (await (await snapshot(sandboxId, headers)).json()) as Image;
    await terminate(sandboxId);
    await env.DB.exec("UPDATE idempotency_keys SET answer = NULL");
    expect(await (await snapshot(sandboxId, headers)).json()).toEqual(image);
  });

  it("one that is to be waited for is another than one that is not", async () => {
    const sandboxId = await startSandbox();
    const headers = { "idempotency-key": crypto.randomUUID() };
    expect((await snapshot(sandboxId, { ...headers, prefer: "respond-async" })).status).toBe(202);
    expect(await problemOf(await snapshot(sandboxId, headers))).toMatchObject({ code: "idempotency_conflict" });
  });

  it("a fork of which one cannot be made leaves none, nor its image, and is not taken for done", async () => {
    const sandboxId = await startSandbox({ tags: { fork: "undone" } });
    const headers = { "idempotency-key": crypto.randomUUID() };
    const fork = () => call("POST", `/v1/sandboxes/${sandboxId}/fork`, { json: { count: 2 }, headers });
    const { image_id: imageId, data } = (await (await fork()).json()) as Fork;
    await terminate(data[0]!.sandbox_id);
    await env.DB.exec("UPDATE idempotency_keys SET answer = NULL");
    expect(await problemOf(await fork())).toMatchObject({ status: 409, code: "conflict" });
    for (const one of data) expect((await getSandbox(one.sandbox_id)).state).toBe("terminated");
    expect(await new ImageCatalog(env.DB).find("main", imageId, Date.now())).toBeUndefined();
    expect((await getSandbox(sandboxId)).state).toBe("ready");
  });
});
