import { beforeAll, describe, expect, it } from "vitest";
import type { VolumeCommit, VolumeReload } from "../../src/contract/volume-mount.ts";
import { call, newKey, problemOf } from "./client.ts";
import { startSandbox, terminate } from "./sandboxes.ts";
import { connectMountingHost, newVolume } from "./volume-calls.ts";
import { fakeHost } from "./worker.ts";

const order = (sandboxId: string, what: "commit" | "reload", json?: object, key?: string) =>
  call("POST", `/v1/sandboxes/${sandboxId}/volumes/${what}`, { ...(json && { json }), ...(key && { key }) });
async function done<Answer>(response: Response): Promise<Answer[]> {
  expect(response.status, await response.clone().text()).toBe(200);
  return ((await response.json()) as { data: Answer[] }).data;
}
const commit = async (id: string, paths?: string[]) =>
  done<VolumeCommit>(await order(id, "commit", paths && { paths }));
const reload = async (id: string, paths?: string[]) =>
  done<VolumeReload>(await order(id, "reload", paths && { paths }));
const filePath = (id: string, path: string) => `/v1/sandboxes/${id}/files?path=${path}`;
const write = (id: string, path: string, body: string) => call("PUT", filePath(id, path), { body });
const read = async (id: string, path: string) => {
  const response = await call("GET", filePath(id, path));
  return response.ok ? response.text() : (await problemOf(response)).code;
};
/** A volume that two sandboxes mount at `/v`, the second one with more. */
async function shared(more: object = {}) {
  const { volume_id } = await newVolume();
  const [one, two] = await Promise.all(
    [{}, more].map((use) => startSandbox({ volumes: { "/v": { volume_id, ...use } } })),
  );
  return { volume_id, one: one!, two: two! };
}

beforeAll(() => connectMountingHost());

describe("a commit", () => {
  it("is seen by others once they reload", async () => {
    const { volume_id, one, two } = await shared();
    await write(one, "/v/a", "first");
    expect(await read(two, "/v/a")).toBe("file_not_found");
    const committed = { path: "/v", volume_id, version: 1, changed_files: 1, uploaded_bytes: 5 };
    expect(await commit(one)).toEqual([committed]);
    expect(await commit(one)).toEqual([{ ...committed, changed_files: 0, uploaded_bytes: 0 }]);
    expect(await read(two, "/v/a")).toBe("file_not_found");
    expect(await reload(two)).toEqual([{ path: "/v", volume_id, version: 1, changed_files: 1, downloaded_bytes: 5 }]);
    expect(await read(two, "/v/a")).toBe("first");
    await Promise.all([one, two].map(terminate));
  });

  it("is of the mounts that it names, each once", async () => {
    const ids = [(await newVolume()).volume_id, (await newVolume()).volume_id];
    const sandboxId = await startSandbox({ volumes: { "/a": { volume_id: ids[0] }, "/b": { volume_id: ids[1] } } });
    await Promise.all([write(sandboxId, "/a/x", "x"), write(sandboxId, "/b/x", "x")]);
    expect(await commit(sandboxId, ["/b", "/b"])).toMatchObject([{ path: "/b", volume_id: ids[1], changed_files: 1 }]);
    expect(await commit(sandboxId)).toMatchObject([
      { path: "/a", changed_files: 1 },
      { path: "/b", changed_files: 0 },
    ]);
    await terminate(sandboxId);
  });

  it("leaves out what is read-only, and refuses it by name", async () => {
    const { one, two, volume_id } = await shared({ read_only: true });
    expect(await commit(two)).toEqual([]);
    expect(await problemOf(await order(two, "commit", { paths: ["/v"] }))).toMatchObject({
      status: 400,
      errors: [{ path: "paths.0", message: "is mounted read-only" }],
    });
    expect(await reload(two, ["/v"])).toMatchObject([{ volume_id, changed_files: 0 }]);
    await Promise.all([one, two].map(terminate));
  });

  it("that cannot be stored says so, and goes on when it is asked again", async () => {
    const { one, two } = await shared();
    await write(one, "/v/a", "kept");
    fakeHost.volumes.isAway = true;
    try {
      for (const what of ["commit", "reload"] as const) {
        const response = await order(one, what);
        expect(response.headers.get("retry-after")).toBe("1");
        expect(await problemOf(response)).toMatchObject({
          status: 502,
          code: "volume_not_stored",
          detail: "/v: 1 files are not durable yet.",
        });
      }
      expect(await read(one, "/v/a")).toBe("kept");
    } finally {
      fakeHost.volumes.isAway = false;
    }
    expect(await commit(one)).toMatchObject([{ version: 1, changed_files: 1 }]);
    await Promise.all([one, two].map(terminate));
  });
});

describe.each(["commit", "reload"] as const)("a %s", (what) => {
  it("names the paths where no volume is mounted", async () => {
    const { one, two } = await shared();
    const problem = await problemOf(await order(one, what, { paths: ["/v", "/w", "/v/x"] }));
    expect(problem).toMatchObject({ status: 400, code: "invalid_request", detail: expect.stringContaining("paths.1") });
    expect(problem.errors?.map(({ path }) => path)).toEqual(["paths.1", "paths.2"]);
    await Promise.all([one, two].map(terminate));
  });

  it.each([{ paths: [] }, { paths: ["v"] }, { paths: "/v" }, { path: "/v" }])("is refused as %j", async (json) => {
    const sandboxId = await startSandbox();
    expect(await problemOf(await order(sandboxId, what, json))).toMatchObject({ status: 400 });
    await terminate(sandboxId);
  });

  it("of a sandbox without volumes has nothing to do, and asks nobody", async () => {
    const sandboxId = await startSandbox();
    fakeHost.isDown = true;
    const response = await order(sandboxId, what).finally(() => (fakeHost.isDown = false));
    expect(await response.json()).toEqual({ data: [] });
    expect(await problemOf(await order(sandboxId, what, { paths: ["/v"] }))).toMatchObject({ status: 400 });
    await terminate(sandboxId);
  });

  it("of one that has ended is a conflict, and none of a stranger's is there", async () => {
    const { one, two } = await shared();
    const { key } = await newKey(["write"], "stranger");
    expect(await problemOf(await order(one, what, {}, key))).toMatchObject({ status: 404, code: "sandbox_not_found" });
    await Promise.all([one, two].map(terminate));
    expect(await problemOf(await order(one, what))).toMatchObject({ status: 409, code: "sandbox_ended" });
  });

  it("waits for the start", async () => {
    const { volume_id } = await newVolume();
    fakeHost.holdsStarts = true;
    const created = await call("POST", "/v1/sandboxes", { json: { volumes: { "/v": { volume_id } } } });
    const { sandbox_id: sandboxId } = (await created.json()) as { sandbox_id: string };
    await expect.poll(() => fakeHost.heldStarts).toBeGreaterThan(0);
    const asked = order(sandboxId, what);
    fakeHost.holdsStarts = false;
    expect(await done(await asked)).toMatchObject([{ path: "/v", version: 0 }]);
    await terminate(sandboxId);
  });

  it("is activity: its sandbox does not idle", async () => {
    const { volume_id } = await newVolume();
    const sandboxId = await startSandbox({ idle_timeout: 60, volumes: { "/v": { volume_id } } });
    const idleAt = async () =>
      Date.parse(
        ((await (await call("GET", `/v1/sandboxes/${sandboxId}`)).json()) as Record<string, string>)[
          "idle_expires_at"
        ]!,
      );
    const before = await idleAt();
    await expect.poll(async () => (await order(sandboxId, what), (await idleAt()) > before)).toBe(true);
    await terminate(sandboxId);
  });
});
