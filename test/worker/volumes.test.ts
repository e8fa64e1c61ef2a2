import { env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { Volume, VolumeDetail } from "../../src/contract/volume.ts";
import { call, newKey, problemOf } from "./client.ts";
import { callPast, hasObject, newName, newVolume, postVolume, removeVolume } from "./volume-calls.ts";

describe("a volume", () => {
  it("is made empty, is shown and listed, and goes", async () => {
    const name = newName();
    const response = await postVolume({ name });
    expect(response.status).toBe(201);
    const volume = (await response.json()) as Volume;
    expect(volume).toEqual({
      volume_id: expect.stringMatching(/^vo-[a-z0-9]{22}$/),
      name,
      created_at: expect.stringMatching(/Z$/),
    });
    const path = `/v1/volumes/${volume.volume_id}`;
    const detail = (await (await call("GET", path)).json()) as VolumeDetail;
    expect(detail).toEqual({ ...volume, version: 0, files: 0, size: 0, stored_size: 0 });
    const { data } = (await (await call("GET", "/v1/volumes")).json()) as { data: Volume[] };
    expect(data[0]).toEqual(volume);
    expect(await hasObject(volume.volume_id)).toBe(true);
    expect((await removeVolume(volume.volume_id)).status).toBe(204);
    expect(await problemOf(await call("GET", path))).toMatchObject({ status: 404, code: "volume_not_found" });
    expect(await problemOf(await removeVolume(volume.volume_id))).toMatchObject({ code: "volume_not_found" });
    expect(await hasObject(volume.volume_id)).toBe(false);
  });

  it("is listed newest first, by pages", async () => {
    const { key } = await newKey(["write"], "paged");
    const names = ["a", "b", "c"];
    for (const name of names) await newVolume(name, key);
    const read = async (query: string) =>
      (await call("GET", `/v1/volumes?${query}`, { key })).json() as Promise<{ data: Volume[]; next_cursor?: string }>;
    const first = await read("limit=2");
    const second = await read(`limit=2&cursor=${first.next_cursor}`);
    expect(second.next_cursor).toBeUndefined();
    const all = [...first.data, ...second.data];
    expect(all.map(({ name }) => name).toSorted()).toEqual(names);
    const times = all.map(({ created_at }) => created_at);
    expect(times).toEqual(times.toSorted().toReversed());
  });

  it("belongs to its environment", async () => {
    const { key } = await newKey(["write"], "stranger");
    const { volume_id: id, name } = await newVolume();
    for (const method of ["GET", "DELETE"]) {
      const response = await call(method, `/v1/volumes/${id}`, { key });
      expect(await problemOf(response)).toMatchObject({ status: 404, code: "volume_not_found" });
    }
    for (const one of [id, name]) {
      const json = { volumes: { "/data": { volume_id: one } } };
      expect(await problemOf(await call("POST", "/v1/sandboxes", { key, json }))).toMatchObject({
        status: 404,
        code: "volume_not_found",
        errors: [{ path: "volumes./data.volume_id" }],
      });
    }
    const theirs = await newVolume(name, key);
    expect(theirs.volume_id).not.toBe(id);
    expect([await hasObject(id), await hasObject(theirs.volume_id, "stranger")]).toEqual([true, true]);
    expect(await hasObject(theirs.volume_id)).toBe(false);
  });

  it("has a name that no other of its environment has, until it is gone", async () => {
    const { volume_id: id, name } = await newVolume();
    const problem = await problemOf(await postVolume({ name }));
    expect(problem).toMatchObject({ status: 409, code: "conflict", detail: expect.stringContaining(id) });
    await removeVolume(id);
    expect((await newVolume(name)).volume_id).not.toBe(id);
  });

  it("of a name that is taken leaves no object behind", async () => {
    const { name } = await newVolume();
    const made: string[] = [];
    const response = await callPast((_, id) => void made.push(id), "POST", "/v1/volumes", { name });
    expect([response.status, new Set(made).size]).toEqual([409, 1]);
    expect(await hasObject(made[0]!)).toBe(false);
  });

  it.each([
    ["name", {}],
    ["name", { name: "" }],
    ["name", { name: "a b" }],
    ["name", { name: "x".repeat(65) }],
    ["name", { name: newId("volume") }],
    ["size", { name: "x", size: 1 }],
  ])("is refused for its %s: %j", async (path, json) => {
    expect(await problemOf(await postVolume(json))).toMatchObject({ status: 400, errors: [{ path }] });
  });

  it("is made once under an idempotency key", async () => {
    const [name, headers] = [newName(), { "idempotency-key": newName() }];
    const texts = await Promise.all([1, 2, 3].map(async () => (await postVolume({ name }, { headers })).text()));
    expect(new Set(texts).size).toBe(1);
    expect(JSON.parse(texts[0]!)).toMatchObject({ name });
    const other = await problemOf(await postVolume({ name: newName() }, { headers }));
    expect(other).toMatchObject({ status: 409, code: "idempotency_conflict" });
  });

  it("needs a key that may write to be made or to go", async () => {
    const { key } = await newKey(["read"]);
    const { volume_id: id } = await newVolume();
    expect((await postVolume({ name: newName() }, { key })).status).toBe(403);
    expect((await removeVolume(id, key)).status).toBe(403);
    expect((await call("GET", `/v1/volumes/${id}`, { key })).status).toBe(200);
  });
});

describe("a catalog that does not answer", () => {
  const withoutVolumes = async <T>(run: () => Promise<T>): Promise<T> => {
    await env.DB.exec("ALTER TABLE volumes RENAME TO volumes_away");
    return run().finally(() => env.DB.exec("ALTER TABLE volumes_away RENAME TO volumes"));
  };

  it("keeps a volume from being made; the same request makes it later", async () => {
    const [name, headers] = [newName(), { "idempotency-key": newName() }];
    const problem = await problemOf(await withoutVolumes(() => postVolume({ name }, { headers })));
    expect(problem).toMatchObject({ status: 503, code: "catalog_unavailable" });
    const volume = (await (await postVolume({ name }, { headers })).json()) as Volume;
    expect(await hasObject(volume.volume_id)).toBe(true);
  });

  it("keeps a volume from being deleted, with all that is in it", async () => {
    const { volume_id: id } = await newVolume();
    expect((await withoutVolumes(() => removeVolume(id))).status).toBe(503);
    expect(await hasObject(id)).toBe(true);
    expect((await removeVolume(id)).status).toBe(204);
  });
});
