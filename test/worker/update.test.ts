import { env } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { call, connectHost, newKey, problemOf } from "./client.ts";
import { changed, exec, getSandbox, patch, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.holdsStarts = false;
  await connectHost();
});

const refused = async (sandboxId: string, json: object) => problemOf(await patch(sandboxId, json));
const listed = async (query: string) =>
  ((await (await call("GET", `/v1/sandboxes?${query}`)).json()) as { data: Sandbox[] }).data.map(
    ({ sandbox_id }) => sandbox_id,
  );
const wait = (ms: number) => new Promise((wake) => setTimeout(wake, ms));
const secondsBetween = (a: string | undefined, b: string | undefined) => (Date.parse(a!) - Date.parse(b!)) / 1000;
const hostLifetimeS = (sandboxId: string) => (fakeHost.containers.get(sandboxId)!.deadlineAt - Date.now()) / 1000;

describe("tags", () => {
  it("are replaced as a whole, in lists too, also of a sandbox that has ended", async () => {
    const sandboxId = await startSandbox({ tags: { update: "1", old: "x" } });
    expect((await changed(sandboxId, { tags: { update: "2" } })).tags).toEqual({ update: "2" });
    expect(await listed("tag=update=2")).toEqual([sandboxId]);
    expect(await listed("tag=update=1")).toEqual([]);
    await terminate(sandboxId);
    expect((await changed(sandboxId, { tags: { update: "3" } })).state).toBe("terminated");
    expect(await listed("tag=update=3&state=ended")).toEqual([sandboxId]);
    expect((await changed(sandboxId, { tags: {} })).tags).toEqual({});
    expect((await changed(sandboxId, {})).tags).toEqual({});
  });
});

describe("timeout", () => {
  it("is extended and shortened, counted from the start, and the host knows", async () => {
    const sandboxId = await startSandbox({ timeout: 60 });
    for (const timeout of [600, 30]) {
      const sandbox = await changed(sandboxId, { timeout });
      expect(sandbox.timeout).toBe(timeout);
      expect(secondsBetween(sandbox.expires_at, sandbox.started_at)).toBe(timeout);
      expect(hostLifetimeS(sandboxId)).toBeGreaterThan(timeout + 12);
      expect(hostLifetimeS(sandboxId)).toBeLessThan(timeout + 16);
    }
  });

  it("that is over already ends the sandbox now", async () => {
    const sandboxId = await startSandbox({ timeout: 600 });
    await wait(1100);
    await changed(sandboxId, { timeout: 1 });
    await expect.poll(() => getSandbox(sandboxId)).toMatchObject({ finish_reason: "timeout", returncode: 124 });
  });

  it("is kept when the sandbox would have ended before", async () => {
    const sandboxId = await startSandbox({ timeout: 1 });
    await changed(sandboxId, { timeout: 600 });
    await wait(1500);
    expect((await getSandbox(sandboxId)).state).toBe("ready");
  });

  it("of a sandbox that is being started counts from its start, also on the host", async () => {
    fakeHost.holdsStarts = true;
    const created = (await (await call("POST", "/v1/sandboxes", { json: { timeout: 60 } })).json()) as Sandbox;
    await expect.poll(() => fakeHost.heldStarts).toBe(1);
    expect(await changed(created.sandbox_id, { timeout: 600 })).toMatchObject({ timeout: 600, state: "scheduled" });
    fakeHost.holdsStarts = false;
    await expect.poll(async () => (await getSandbox(created.sandbox_id)).state).toBe("ready");
    const sandbox = await getSandbox(created.sandbox_id);
    expect(secondsBetween(sandbox.expires_at, sandbox.started_at)).toBe(600);
    await expect.poll(() => hostLifetimeS(created.sandbox_id)).toBeGreaterThan(600);
  });

  it("changes nothing when the host cannot be told, and the host is told so later", async () => {
    const sandboxId = await startSandbox({ timeout: 600, tags: { a: "1" } });
    const before = await getSandbox(sandboxId);
    fakeHost.isDown = true;
    const problem = await refused(sandboxId, { timeout: 60, tags: { a: "2" } });
    expect(problem).toMatchObject({ status: 503, code: "backend_unavailable" });
    expect(await getSandbox(sandboxId)).toEqual(before);
    expect((await changed(sandboxId, { tags: { a: "3" } })).timeout).toBe(600);
    fakeHost.isDown = false;
    fakeHost.containers.get(sandboxId)!.deadlineAt = Date.now() + 20_000;
    await expect.poll(() => hostLifetimeS(sandboxId), { timeout: 8000 }).toBeGreaterThan(600);
  });
});

describe("a host that is slow", () => {
  it("has in the end what is written down, whatever it is told meanwhile", async () => {
    const sandboxId = await startSandbox({ timeout: 60 });
    // The object's own timer asks in the middle of it.
    fakeHost.slow.setDeadline.push(6500);
    expect((await changed(sandboxId, { timeout: 3600 })).timeout).toBe(3600);
    await wait(1500);
    expect(hostLifetimeS(sandboxId)).toBeGreaterThan(3600);
    expect((await getSandbox(sandboxId)).timeout).toBe(3600);
  });

  it("holds up no other timer: the lifetime ends the sandbox, not the idle time that was asked about", async () => {
    const sandboxId = await startSandbox({ timeout: 4, idle_timeout: 2 });
    fakeHost.slow.inspect.push(...Array.from({ length: 20 }, () => 6000));
    const sandbox = (await (await call("GET", `/v1/sandboxes/${sandboxId}/wait?timeout=10`)).json()) as Sandbox;
    fakeHost.slow.inspect.length = 0;
    expect(sandbox).toMatchObject({ finish_reason: "timeout", returncode: 124 });
    expect(secondsBetween(sandbox.finished_at, sandbox.started_at)).toBeLessThan(4.8);
  });
});

describe("idle_timeout", () => {
  it("that is changed while the old one is being looked at counts", async () => {
    const sandboxId = await startSandbox({ idle_timeout: 2 });
    fakeHost.slow.inspect.push(1500);
    await wait(2500);
    expect((await changed(sandboxId, { idle_timeout: 1 })).state).toBe("ready");
    const changedAt = Date.now();
    await expect.poll(() => getSandbox(sandboxId), { timeout: 4000 }).toMatchObject({ finish_reason: "idle_timeout" });
    expect(Date.now() - changedAt).toBeLessThan(1900);
  });

  it("begins anew when it is given, also as it was", async () => {
    const sandboxId = await startSandbox({ idle_timeout: 100 });
    const before = (await getSandbox(sandboxId)).idle_expires_at;
    await wait(1500);
    expect(secondsBetween((await changed(sandboxId, { idle_timeout: 100 })).idle_expires_at, before)).toBeGreaterThan(
      1,
    );
  });

  it("is set, changed and taken away", async () => {
    const sandboxId = await startSandbox();
    expect(await getSandbox(sandboxId)).not.toHaveProperty("idle_expires_at");
    const set = await changed(sandboxId, { idle_timeout: 100 });
    expect(set.idle_timeout).toBe(100);
    expect(secondsBetween(set.idle_expires_at, new Date().toISOString())).toBeGreaterThan(98);
    expect(await changed(sandboxId, { idle_timeout: null })).not.toHaveProperty("idle_timeout");
    expect(await getSandbox(sandboxId)).not.toHaveProperty("idle_expires_at");
    await changed(sandboxId, { idle_timeout: 1 });
    await expect
      .poll(() => getSandbox(sandboxId), { timeout: 4000 })
      .toMatchObject({ finish_reason: "idle_timeout", returncode: 137 });
  });

  it("is told truly: nothing while something runs, from its end on when it has ended", async () => {
    const sandboxId = await startSandbox({ idle_timeout: 100 });
    const { process_id } = await exec(sandboxId, { command: ["sleep", "60"] });
    expect(await getSandbox(sandboxId)).not.toHaveProperty("idle_expires_at");
    await wait(1200);
    await call("DELETE", `/v1/sandboxes/${sandboxId}/processes/${process_id}`);
    const endedAt = new Date().toISOString();
    await expect.poll(() => getSandbox(sandboxId)).toHaveProperty("idle_expires_at");
    expect(secondsBetween((await getSandbox(sandboxId)).idle_expires_at, endedAt)).toBeGreaterThan(99);
  });
});

describe("name", () => {
  it("is given once, to one, and is free after the end", async () => {
    const [one, other] = [await startSandbox({ app_id: "naming" }), await startSandbox({ app_id: "naming" })];
    expect((await changed(one, { name: "late" })).name).toBe("late");
    expect((await changed(one, { name: "late", tags: { n: "1" } })).tags).toEqual({ n: "1" });
    expect(await listed("name=late&app_id=naming")).toEqual([one]);
    expect(await refused(one, { name: "later", tags: {} })).toMatchObject({ status: 409, code: "conflict" });
    expect(await refused(other, { name: "late", tags: { n: "2" } })).toMatchObject({ status: 409, code: "name_taken" });
    expect((await getSandbox(other)).tags).toEqual({});
    expect((await getSandbox(one)).tags).toEqual({ n: "1" });
    await terminate(one);
    expect((await changed(other, { name: "late" })).name).toBe("late");
  });

  it("goes to one of many who ask at once, and no refused one keeps a claim", async () => {
    const sandboxes = await Promise.all(Array.from({ length: 8 }, () => startSandbox({ app_id: "rush" })));
    const answers = await Promise.all(sandboxes.map((sandboxId) => patch(sandboxId, { name: "rush" })));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    const { results } = await env.DB.prepare("SELECT * FROM sandbox_names WHERE app_id = 'rush'").all();
    expect(results).toHaveLength(1);
    const twice = await Promise.all(["a", "b"].map((name) => patch(sandboxes[0]!, { name })));
    expect(twice.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(1);
    const { results: kept } = await env.DB.prepare(
      "SELECT name FROM sandbox_names WHERE sandbox_id = ? AND app_id = 'rush'",
    )
      .bind(sandboxes[0]!)
      .all<{ name: string }>();
    expect(kept.map(({ name }) => name)).toEqual([(await getSandbox(sandboxes[0]!)).name]);
  });
});

describe("a claim of a name", () => {
  it("that a dead request left is renewed by its own sandbox, and then no other's", async () => {
    const [one, other] = [await startSandbox({ app_id: "claims" }), await startSandbox({ app_id: "claims" })];
    const old = Date.now() - 120_000;
    await env.DB.prepare("INSERT INTO sandbox_names VALUES ('main', 'claims', 'left', ?, ?)").bind(one, old).run();
    fakeHost.slow.setDeadline.push(1500);
    const renewing = patch(one, { name: "left", timeout: 900 });
    await wait(300);
    expect(await refused(other, { name: "left" })).toMatchObject({ status: 409, code: "name_taken" });
    expect((await renewing).status).toBe(200);
    expect(await listed("name=left&state=live")).toEqual([one]);
  });
});

describe("a change", () => {
  it("of what is not there, is another environment's, or has ended, is refused", async () => {
    const sandboxId = await startSandbox();
    const { key } = await newKey(["write"], "elsewhere");
    const foreign = await call("PATCH", `/v1/sandboxes/${sandboxId}`, { key, json: { tags: {} } });
    expect(await problemOf(foreign)).toMatchObject({ status: 404, code: "sandbox_not_found" });
    await terminate(sandboxId);
    for (const json of [{ timeout: 10 }, { idle_timeout: null }, { name: "x" }, { tags: {}, timeout: 10 }]) {
      expect(await refused(sandboxId, json)).toMatchObject({ status: 409, code: "sandbox_ended" });
    }
    const { results } = await env.DB.prepare("SELECT * FROM sandbox_names WHERE name = 'x'").all();
    expect(results).toEqual([]);
  });

  it("is made one after the other, and none is lost", async () => {
    const sandboxId = await startSandbox();
    await Promise.all([
      ...[100, 200, 300, 400].map((timeout) => changed(sandboxId, { timeout })),
      changed(sandboxId, { tags: { all: "1" } }),
      changed(sandboxId, { idle_timeout: 500 }),
    ]);
    const sandbox = await getSandbox(sandboxId);
    expect(sandbox).toMatchObject({ tags: { all: "1" }, idle_timeout: 500 });
    expect(Math.abs(hostLifetimeS(sandboxId) - sandbox.timeout - 15)).toBeLessThan(3);
  });
});
