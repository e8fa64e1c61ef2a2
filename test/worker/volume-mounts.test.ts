import { env, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import type { Fork } from "../../src/contract/snapshot.ts";
import { verifyVolumeGrant } from "../../src/contract/volume-sync.ts";
import { call, forgetHosts, hostInfo, problemOf, reportHost } from "./client.ts";
import { getSandbox, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import { connectMountingHost, createSandbox, mountsOf, newVolume, removeVolume } from "./volume-calls.ts";
import { fakeHost } from "./worker.ts";

const grantOf = (token: string) => verifyVolumeGrant(env.SIGNING_SECRET, token);

beforeEach(() => connectMountingHost());

describe("a sandbox with volumes", () => {
  it("has them mounted, each with a grant of its own", async () => {
    const [one, two, three] = [await newVolume(), await newVolume(), await newVolume()];
    const volumes = {
      "/data": { volume_id: one.name },
      "/models/v1": { volume_id: two.volume_id, read_only: true },
      "/work": { volume_id: three.name, read_only: false, sub_path: "team/a" },
    };
    const sandboxId = await startSandbox({ volumes });
    const shown = {
      "/data": { volume_id: one.volume_id, read_only: false },
      "/models/v1": { volume_id: two.volume_id, read_only: true },
      "/work": { volume_id: three.volume_id, read_only: false, sub_path: "team/a" },
    };
    expect((await getSandbox(sandboxId)).volumes).toEqual(shown);
    const mounts = mountsOf(sandboxId)!;
    expect(mounts).toMatchObject(Object.entries(shown).map(([path, use]) => Object.assign({ path }, use)));
    expect(await Promise.all(mounts.map(({ token }) => grantOf(token)))).toEqual([
      { volume_id: one.volume_id, environment: "main", access: "write" },
      { volume_id: two.volume_id, environment: "main", access: "read" },
      { volume_id: three.volume_id, environment: "main", access: "write", prefix: "team/a" },
    ]);
    const { data } = (await (await call("POST", `/v1/sandboxes/${sandboxId}/fork`, { json: {} })).json()) as Fork;
    const forkId = data[0]!.sandbox_id;
    expect(data[0]?.volumes).toEqual(shown);
    await expect.poll(() => mountsOf(forkId)?.map(({ path }) => path)).toEqual(Object.keys(shown));
    await Promise.all([sandboxId, forkId].map(terminate));
  });

  it("keeps its grants nowhere: not in the catalog, not in its object, not in its events", async () => {
    const { volume_id } = await newVolume();
    const headers = { "idempotency-key": newId("sandbox") };
    const created = await call("POST", "/v1/sandboxes", { json: { volumes: { "/data": { volume_id } } }, headers });
    const { sandbox_id: sandboxId } = (await created.json()) as Sandbox;
    await expect.poll(() => fakeHost.containers.has(sandboxId)).toBe(true);
    const [signature] = mountsOf(sandboxId)![0]!.token.split(".").slice(-1);
    const tables = ["sandboxes", "volumes", "idempotency_keys"];
    const rows = await Promise.all(
      tables.map(async (table) => (await env.DB.prepare(`SELECT * FROM ${table}`).all()).results),
    );
    const object = await runInDurableObject(objectOf(sandboxId), (_, { storage }) =>
      ["sandbox", "processes", "events"].map((table) => storage.sql.exec(`SELECT * FROM ${table}`).toArray()),
    );
    const events = await (await call("GET", `/v1/sandboxes/${sandboxId}/events?follow=false`)).text();
    const all = JSON.stringify([rows, object, events, await getSandbox(sandboxId)]);
    expect(all).toContain(volume_id);
    expect(all).not.toContain(signature);
    await terminate(sandboxId);
  });

  it.each([{ timeout: 1 }, { idle_timeout: 1 }, { timeout: 1, failing: true }])(
    "has what it wrote stored before it is said to have ended by its time: %j",
    async ({ failing = false, ...limits }) => {
      const { volume_id } = await newVolume();
      const volumes = { "/data": { volume_id } };
      const first = await startSandbox({ volumes, ...limits });
      const path = "/files?path=/data/last";
      expect((await call("PUT", `/v1/sandboxes/${first}${path}`, { body: "words" })).status).toBe(204);
      fakeHost.volumes.isAway = failing;
      await expect
        .poll(async () => (await getSandbox(first)).finish_reason, { timeout: 10_000 })
        .toBe(limits.timeout === undefined ? "idle_timeout" : "timeout");
      fakeHost.volumes.isAway = false;
      const second = await startSandbox({ volumes });
      // The fake stores nothing by itself.
      expect((await call("GET", `/v1/sandboxes/${second}${path}`)).status).toBe(failing ? 404 : 200);
      await terminate(second);
    },
  );

  it("has none where it asks for none", async () => {
    const sandboxId = await startSandbox({ volumes: {} });
    expect(mountsOf(sandboxId)).toBeUndefined();
    await terminate(sandboxId);
  });

  it("names those that are there, each once", async () => {
    const { volume_id: id, name } = await newVolume();
    const none = newId("volume");
    const use = (volume_id: string) => ({ volume_id });
    const problem = await problemOf(
      await createSandbox({ volumes: { "/a": use(id), "/b": use(none), "/c": use("nope") } }),
    );
    expect(problem).toMatchObject({ status: 404, code: "volume_not_found", detail: expect.stringContaining(none) });
    expect(problem.errors?.map(({ path }) => path)).toEqual(["volumes./b.volume_id", "volumes./c.volume_id"]);
    const twice = { "/a": use(id), "/b": { ...use(name), sub_path: "x" } };
    expect(await problemOf(await createSandbox({ volumes: twice }))).toMatchObject({
      status: 400,
      code: "invalid_request",
      errors: [{ path: "volumes./b.volume_id", message: "must not mount a volume twice" }],
    });
  });

  const bad: [string, string[]][] = [
    ["volumes./", ["/"]],
    ["volumes./root", ["/root"]],
    ["volumes./tmp", ["/tmp"]],
    ["volumes./etc/x", ["/etc/x"]],
    ["volumes./proc", ["/proc"]],
    ["volumes./.sandbar/x", ["/.sandbar/x"]],
    ["volumes.data", ["data"]],
    ["volumes.", [""]],
    ["volumes./a/../b", ["/a/../b"]],
    ["volumes./a/./b", ["/a/./b"]],
    ["volumes.//a", ["//a"]],
    ["volumes./a/", ["/a/"]],
    ["volumes./a\0", ["/a\0"]],
    ["volumes", ["/a", "/a/b"]],
    ["volumes", Array.from({ length: 17 }, (_, at) => `/v${at}`)],
  ];
  it.each(bad)("is refused, naming %j", async (path, paths) => {
    const volumes = Object.fromEntries(paths.map((one, at) => [one, { volume_id: `v${at}` }]));
    const problem = await problemOf(await createSandbox({ volumes }));
    expect(problem).toMatchObject({ status: 400, code: "invalid_request" });
    expect(problem.errors?.map((error) => error.path)).toContain(path);
    expect(problem.errors?.[0]?.message).toMatch(/^must /);
  });

  it.each(["/abs", "..", "a/../b", "a//b", "a/", "", ".", "x\0"])(
    "is refused for the sub_path %j",
    async (sub_path) => {
      const problem = await problemOf(await createSandbox({ volumes: { "/a": { volume_id: "v", sub_path } } }));
      expect(problem).toMatchObject({ status: 400 });
      expect(problem.errors?.map(({ path }) => path)).toContain("volumes./a.sub_path");
    },
  );

  it("does not start where a volume has gone meanwhile", async () => {
    const volumeId = newId("volume");
    const sandboxId = newId("sandbox");
    const create = { volumes: { "/data": { volume_id: volumeId, read_only: false } }, image: "fake" };
    await objectOf(sandboxId).create({ sandboxId, environment: "main", create, backend: "docker", place: undefined });
    await expect.poll(async () => (await getSandbox(sandboxId)).finish_reason).toBe("start_failed");
    expect((await getSandbox(sandboxId)).error).toBe(`There is no volume ${volumeId} any more.`);
    expect(fakeHost.containers.has(sandboxId)).toBe(false);
  });
});

describe("where volumes can be mounted", () => {
  it("is not on Cloudflare", async () => {
    const { volume_id } = await newVolume();
    const json = { backend: "cloudflare", volumes: { "/data": { volume_id } } };
    expect(await problemOf(await createSandbox(json))).toMatchObject({
      status: 422,
      code: "unsupported_by_backend",
      errors: [{ path: "volumes" }],
    });
  });

  it("is not on hosts that say nothing of it, and never anywhere but on those that do", async () => {
    const plain = "ho-bbbbbbbbbbbbbbbbbbbbbb";
    const json = { volumes: { "/data": { volume_id: (await newVolume()).volume_id } } };
    await forgetHosts();
    await reportHost({ url: "http://127.0.0.1:9", info: hostInfo(plain), containers: [] });
    expect(await problemOf(await createSandbox(json))).toMatchObject({
      status: 422,
      code: "unsupported_by_backend",
      errors: [{ path: "volumes" }],
    });
    const mounting = "ho-cccccccccccccccccccccc";
    await connectMountingHost(mounting);
    for (let turn = 0; turn < 6; turn++) {
      const sandboxId = await startSandbox(json);
      const row = await env.DB.prepare("SELECT host_id FROM sandboxes WHERE sandbox_id = ?").bind(sandboxId).first();
      expect(row).toEqual({ host_id: mounting });
      await terminate(sandboxId);
    }
    await forgetHosts();
  });
});

describe("a volume in use", () => {
  it("is not deleted, and who uses it is named", async () => {
    const { volume_id: id, name } = await newVolume();
    const users = [
      await startSandbox({ volumes: { "/data": { volume_id: id } } }),
      await startSandbox({ volumes: { "/ours": { volume_id: name, read_only: true } } }),
    ];
    const problem = await problemOf(await removeVolume(id));
    expect(problem).toMatchObject({ status: 409, code: "conflict", sandbox_count: 2 });
    expect((problem["sandboxes"] as string[]).toSorted()).toEqual(users.toSorted());
    for (const user of users) expect(problem.detail).toContain(user);
    expect((await call("GET", `/v1/volumes/${id}`)).status).toBe(200);
    await terminate(users[0]!);
    expect(await problemOf(await removeVolume(id))).toMatchObject({ sandboxes: [users[1]], sandbox_count: 1 });
    await terminate(users[1]!);
    expect((await removeVolume(id)).status).toBe(204);
  });

  it("is not looked up before the catalog, which whoever deletes it asks, has the sandbox", async () => {
    const { volume_id } = await newVolume();
    await env.DB.exec("ALTER TABLE sandboxes RENAME TO sandboxes_away");
    const created = await createSandbox({ volumes: { "/data": { volume_id } } });
    const { sandbox_id: sandboxId } = (await created.json()) as Sandbox;
    await new Promise((wake) => setTimeout(wake, 700));
    const { state } = await getSandbox(sandboxId);
    await env.DB.exec("ALTER TABLE sandboxes_away RENAME TO sandboxes");
    expect([state, fakeHost.containers.has(sandboxId)]).toEqual(["scheduled", false]);
    await expect.poll(async () => (await getSandbox(sandboxId)).state, { timeout: 5000 }).toBe("ready");
    await terminate(sandboxId);
  });

  it("is either seen by who deletes it, or the sandbox does not start", { timeout: 30_000 }, async () => {
    for (let turn = 0; turn < 12; turn++) {
      const { volume_id: id } = await newVolume();
      const creating = createSandbox({ volumes: { "/data": { volume_id: id } } });
      await new Promise((wake) => setTimeout(wake, turn));
      const [created, deleted] = await Promise.all([creating, removeVolume(id)]);
      expect([204, 409]).toContain(deleted.status);
      if (created.status !== 201) {
        expect([(await problemOf(created)).code, deleted.status]).toEqual(["volume_not_found", 204]);
        continue;
      }
      const { sandbox_id: sandboxId } = (await created.json()) as Sandbox;
      await expect.poll(async () => (await getSandbox(sandboxId)).state).toMatch(/ready|terminated/);
      const { state, error } = await getSandbox(sandboxId);
      const [wanted, why] =
        deleted.status === 409 ? ["ready", undefined] : ["terminated", `There is no volume ${id} any more.`];
      expect({ state, error }).toEqual({ state: wanted, error: why });
      await terminate(sandboxId);
    }
  });
});
