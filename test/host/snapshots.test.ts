import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ApiError } from "../../src/contract/errors.ts";
import { newId } from "../../src/contract/ids.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { SignedHost, until } from "./signed-host.ts";

const target = { repository: "main/snapshots", tag: "im-x", token: "a-token" };
const DONE = { kind: "done", size: 42, uploaded_bytes: 1 };
const runtime = new ChildRuntime();
let host: SignedHost;

beforeAll(async () => {
  host = await SignedHost.start(runtime);
});
afterAll(() => host.daemon.close({ stopContainers: true }));
afterEach(() => {
  Object.assign(runtime, { keepDelayMs: 0, pushDelayMs: 0 });
  Object.assign(runtime, { keepFailure: undefined, pushFailure: undefined, findFailure: undefined });
});

const take = (box: string, imageId: string, more: object = {}, waitMs: number | string = 5_000) =>
  host.send("POST", `${box}/snapshots/${imageId}?wait_ms=${waitMs}`, { generation: 1, stop: false, target, ...more });
const attemptsOf = (imageId: string) => ({
  kept: runtime.kept.filter((one) => one === imageId).length,
  pushed: runtime.pushed.filter((one) => one.imageId === imageId).length,
});
const status = async (box: string) => (await host.call("GET", box)).json;

describe("a snapshot", () => {
  test("is kept and stored once, whoever asks for it, also later", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    Object.assign(runtime, { keepDelayMs: 50, pushDelayMs: 50 });
    const answers = await Promise.all([1, 2, 3].map(() => take(box, imageId)));
    expect(answers.map(({ json }) => json)).toEqual([DONE, DONE, DONE]);
    expect((await take(box, imageId)).json).toEqual(DONE);
    expect(attemptsOf(imageId)).toEqual({ kept: 1, pushed: 1 });
    expect(runtime.pushed.at(-1)).toEqual({ imageId, target });
    expect(runtime.started.at(-1)!.isStopped).toBe(false);
  });

  test("says that it is under way, and goes on without anybody who waits", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    runtime.keepDelayMs = 300;
    const begun = Date.now();
    expect((await take(box, imageId, {}, 0)).json).toEqual({ kind: "running" });
    expect((await take(box, imageId, {}, 50)).json).toEqual({ kind: "running" });
    expect(Date.now() - begun).toBeLessThan(250);
    expect(await status(box)).toMatchObject({ busy: true });
    expect((await take(box, imageId)).json).toEqual(DONE);
    expect(attemptsOf(imageId)).toEqual({ kept: 1, pushed: 1 });
    expect(await status(box)).toMatchObject({ kind: "running", busy: false });
  });

  test("that could not be stored is stored when asked again, and not kept anew", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    runtime.pushFailure = new ApiError("snapshot_failed", { detail: "The registry is full." });
    const failures = await Promise.all([take(box, imageId), take(box, imageId)]);
    for (const { json } of failures)
      expect(json).toMatchObject({ code: "snapshot_failed", detail: "The registry is full." });
    expect(attemptsOf(imageId)).toEqual({ kept: 1, pushed: 1 });
    runtime.pushFailure = undefined;
    const other = { ...target, token: "another" };
    expect((await take(box, imageId, { target: other })).json).toMatchObject({ kind: "done", uploaded_bytes: 1 });
    expect(attemptsOf(imageId)).toEqual({ kept: 1, pushed: 2 });
    expect(runtime.pushed.at(-1)!.target.token).toBe("another");
  });

  test("that could not be kept is tried again", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    runtime.keepFailure = new Error("the disk is full");
    expect((await take(box, imageId)).json).toMatchObject({
      code: "snapshot_failed",
      detail: "The filesystem could not be kept: the disk is full",
    });
    runtime.keepFailure = undefined;
    expect((await take(box, imageId)).json).toEqual(DONE);
    expect(attemptsOf(imageId)).toEqual({ kept: 2, pushed: 1 });
  });

  test("without a target stays here", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    expect((await take(box, imageId, { target: undefined })).json).toEqual({ ...DONE, uploaded_bytes: 0 });
    expect(attemptsOf(imageId)).toEqual({ kept: 1, pushed: 0 });
    expect(runtime.images.has(imageId)).toBe(true);
  });

  test("ends its container once it is kept, and before it is stored", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    const container = runtime.started.at(-1)!;
    Object.assign(runtime, { keepDelayMs: 100, pushDelayMs: 300 });
    const taken = take(box, imageId, { stop: true });
    await until(() => attemptsOf(imageId).kept === 1);
    expect(container.isStopped).toBe(false);
    await until(() => attemptsOf(imageId).pushed === 1);
    expect(container.isStopped).toBe(true);
    expect(await status(box)).toEqual({ kind: "gone" });
    expect((await taken).json).toEqual(DONE);
  });

  test("that cannot be kept leaves its container running", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    runtime.keepFailure = new Error("the disk is full");
    expect((await take(box, imageId, { stop: true })).status).toBe(502);
    expect(await status(box)).toMatchObject({ kind: "running" });
    expect(attemptsOf(imageId).pushed).toBe(0);
  });

  test("of an ended container is only what was kept before", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    runtime.pushFailure = new ApiError("snapshot_failed");
    expect((await take(box, imageId, { stop: true })).json).toMatchObject({ code: "snapshot_failed" });
    runtime.pushFailure = undefined;
    expect((await take(box, imageId, { stop: true })).json).toMatchObject({ kind: "done", uploaded_bytes: 1 });
    expect(attemptsOf(imageId)).toEqual({ kept: 1, pushed: 2 });
    expect((await take(box, newId("image"))).json).toMatchObject({ code: "sandbox_ended" });
    expect((await take(`/v1/sandboxes/${newId("sandbox")}`, newId("image"))).json.code).toBe("sandbox_ended");
  });

  test("of an ended container is not given up while nobody can tell whether it is here", async () => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    await take(box, imageId, { stop: true, target: undefined });
    const next = await SignedHost.start(runtime);
    runtime.findFailure = new Error("the engine is away");
    const path = `${box}/snapshots/${imageId}?wait_ms=5000`;
    const body = { generation: 1, stop: true, target };
    expect((await next.send("POST", path, body)).json).toMatchObject({ code: "backend_unavailable" });
    runtime.findFailure = undefined;
    expect((await next.send("POST", path, body)).json).toMatchObject({ kind: "done", uploaded_bytes: 1 });
    await next.daemon.close({ stopContainers: false });
  });

  test("of another generation than the one that runs is none", async () => {
    const [spec, imageId] = [host.spec({ generation: 2 }), newId("image")];
    await host.put(spec);
    const box = `/v1/sandboxes/${spec.sandbox_id}`;
    for (const generation of [1, 3])
      expect((await take(box, imageId, { generation, stop: true })).json).toMatchObject({ code: "sandbox_ended" });
    expect(attemptsOf(imageId).kept).toBe(0);
    expect((await take(box, imageId, { generation: 2 })).json).toEqual(DONE);
    expect(await status(box)).toMatchObject({ kind: "running" });
  });

  test.each<[string, object, string | number]>([
    ["no generation", { generation: undefined }, 0],
    ["generation 0", { generation: 0 }, 0],
    ["no word of its container", { stop: undefined }, 0],
    ["half a target", { target: { repository: "x" } }, 0],
    ["what nobody knows", { size: 1 }, 0],
    ["too long a wait", {}, 60_001],
    ["a wait below none", {}, -1],
    ["a wait that is no number", {}, "long"],
  ])("with %s is refused", async (_, more, waitMs) => {
    const [box, imageId] = [await host.sandbox(), newId("image")];
    const answer = await take(box, imageId, more, waitMs);
    expect(answer.json).toMatchObject({ status: 400, code: "invalid_request" });
    expect(attemptsOf(imageId)).toEqual({ kept: 0, pushed: 0 });
  });

  test("has an id of an image", async () => {
    const box = await host.sandbox();
    expect((await take(box, "latest")).status).toBe(404);
  });
});

describe("at its deadline a sandbox", () => {
  const ended = (box: string) => until(async () => (await status(box)).kind === "exited");

  test("is kept before it is ended, and stored for whoever asks afterwards", async () => {
    const imageId = newId("image");
    runtime.keepDelayMs = 300;
    const box = await host.sandbox({ lifetime_ms: 100, end_image: imageId });
    const container = runtime.started.at(-1)!;
    await until(() => attemptsOf(imageId).kept === 1);
    expect(container.isStopped).toBe(false);
    // Joins what is under way.
    const joined = take(box, imageId);
    await ended(box);
    expect(runtime.images.has(imageId)).toBe(true);
    expect((await joined).json).toMatchObject({ kind: "done", uploaded_bytes: 1 });
    expect(attemptsOf(imageId)).toEqual({ kept: 1, pushed: 1 });
  });

  test("is stored also when it is asked for after its end", async () => {
    const imageId = newId("image");
    const box = await host.sandbox({ lifetime_ms: 100, end_image: imageId });
    await ended(box);
    expect((await status(box)).exit).toEqual({ returncode: 124, oom: false, deadline: true });
    expect((await take(box, imageId, { stop: true })).json).toMatchObject({ kind: "done", uploaded_bytes: 1 });
    expect(attemptsOf(imageId)).toEqual({ kept: 1, pushed: 1 });
  });

  test("is ended though it cannot be kept", async () => {
    const imageId = newId("image");
    runtime.keepFailure = new Error("the disk is full");
    const box = await host.sandbox({ lifetime_ms: 100, end_image: imageId });
    await ended(box);
    expect(attemptsOf(imageId).kept).toBe(1);
    expect((await take(box, imageId)).json).toMatchObject({ code: "sandbox_ended" });
  });

  test("is not kept where nobody asked for it", async () => {
    const kept = runtime.kept.length;
    await ended(await host.sandbox({ lifetime_ms: 50 }));
    expect(runtime.kept.length).toBe(kept);
  });
});
