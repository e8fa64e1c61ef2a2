import { env, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openVolume } from "../../../src/volumes/client.ts";
import {
  ahead,
  DAY_MS,
  emptyFile,
  hashOf,
  hexId,
  problemOf,
  randomBytes,
  removed,
  VolumeClient,
} from "./volume-client.ts";

const LATER_MS = DAY_MS + 60_000;

let volume: VolumeClient;
beforeEach(async () => (volume = await VolumeClient.create()));
afterEach(() => vi.restoreAllMocks());

const chunksThere = async () => (await volume.rows("SELECT hash FROM chunks")).length;
const missing = async (...hashes: string[]) => (await volume.rpc.missing(volume.scope, hashes)).length;

/** Commits a file, and takes it away again. */
async function forgotten(content = randomBytes(10)): Promise<string> {
  await volume.commit(await volume.file("gone", content));
  await volume.commitEntries(removed("gone"));
  return hashOf(content);
}

describe("a chunk", () => {
  const content = new Uint8Array([1, 2, 3]);

  it("that no entry refers to goes once the grace is over, with its pack, and not before; one that is referred to stays", async () => {
    const kept = await volume.file("kept", randomBytes(10));
    await volume.commit(kept);
    await forgotten();
    await volume.sweepAfter(DAY_MS - 60_000);
    expect([await chunksThere(), (await volume.keys()).length]).toEqual([2, 2]);
    await volume.sweepAfter(LATER_MS);
    expect([await chunksThere(), await volume.keys()]).toEqual([1, [kept.chunks[0]!.pack]]);
    await volume.sweepAfter(10 * DAY_MS);
    expect(await volume.keys()).toEqual([kept.chunks[0]!.pack]);
    expect(await volume.rpc.contents(volume.scope)).toMatchObject({ stored_size: 10 });
  });

  it.each<[string, (hash: string) => Promise<unknown>]>([
    ["missing", (hash: string) => volume.rpc.missing(volume.scope, [hash])],
    ["locate", (hash: string) => volume.rpc.locate(volume.scope, [hash])],
    ["a part that brings it again", async () => volume.part(hexId(), 0, await volume.file("again", content))],
  ])("is protected for the grace by %s", async (_, tell) => {
    const hash = await forgotten(content);
    await ahead(DAY_MS / 2, () => tell(hash));
    await volume.sweepAfter(LATER_MS);
    expect(await missing(hash)).toBe(0);
    await volume.sweepAfter(DAY_MS / 2 + LATER_MS);
    expect(await chunksThere()).toBe(0);
  });

  it("that a commit then refers to stays for good", async () => {
    const bytes = randomBytes(10);
    const hash = await forgotten(bytes);
    await volume.commitEntries({ ...emptyFile("back"), size: 10, chunks: [hash] });
    await volume.sweepAfter(LATER_MS);
    await volume.sweepAfter(3 * DAY_MS);
    expect(await missing(hash)).toBe(0);
    expect((await volume.keys()).length).toBe(1);
  });

  it("of a file that was written over is kept for the grace from then on", async () => {
    const old = await volume.file("a", randomBytes(10));
    await volume.commit(old);
    const other = await volume.file("a", randomBytes(10));
    const commitId = hexId();
    await volume.part(commitId, 0, other);
    await ahead(5 * DAY_MS, () => volume.rpc.commit(volume.scope, commitId, 1));
    await volume.sweepAfter(5 * DAY_MS + 3_600_000);
    expect(await chunksThere()).toBe(2);
    await volume.sweepAfter(5 * DAY_MS + LATER_MS);
    expect(await volume.keys()).toEqual([other.chunks[0]!.pack]);
  });
});

it("parts of which nothing came go with their packs, once the grace is over", async () => {
  const commitId = hexId();
  await volume.part(commitId, 0, await volume.file("a", randomBytes(10)));
  await volume.sweepAfter(DAY_MS - 60_000);
  expect(await volume.rows("SELECT * FROM staged")).toHaveLength(1);
  await volume.sweepAfter(LATER_MS);
  expect(await volume.rows("SELECT * FROM staged UNION ALL SELECT * FROM staged")).toEqual([]);
  expect(await volume.keys()).toEqual([]);
  expect(await problemOf(await volume.finish(commitId, 1))).toMatchObject({ code: "conflict" });
});

describe("a pack that was put and never named", () => {
  it("goes once the grace is over", async () => {
    const [pack] = [hexId()];
    await volume.putPack(pack, randomBytes(10));
    await volume.sweepAfter(DAY_MS - 60_000);
    expect(await volume.keys()).toEqual([pack]);
    await volume.sweepAfter(LATER_MS);
    expect(await volume.keys()).toEqual([]);
  });

  it("is refused as soon as it is about to go", async () => {
    const places = await volume.pack(randomBytes(10));
    await fail("delete", true);
    await volume.sweepAfter(LATER_MS);
    const response = await volume.part(hexId(), 0, { entries: [], chunks: places });
    expect(await problemOf(response)).toMatchObject({ code: "conflict", detail: expect.stringContaining("put again") });
    await fail("delete", false);
    await volume.sweepAfter(LATER_MS + 3_600_000);
    expect(await volume.keys()).toEqual([]);
  });
});

/** Lets a call of the bucket fail, as the object sees it. */
const fail = (call: "delete" | "list" | "get" | "put", isFailing: boolean) =>
  runInDurableObject(volume.object, (object) => {
    const { SNAPSHOTS: bucket } = (object as unknown as { env: { SNAPSHOTS: R2Bucket } }).env;
    vi.spyOn(console, "error").mockReturnValue(undefined);
    if (isFailing) vi.spyOn(bucket, call).mockRejectedValue(new Error("R2 is away (10001)"));
    else vi.mocked(bucket[call]).mockRestore();
  });

describe("a pack that is mostly dead", () => {
  const MIB = 1024 * 1024;
  /** Two packs of which little is left; answers what that is. */
  const mostlyDead = async () => {
    const live = [randomBytes(1000), randomBytes(2000)];
    for (const [index, bytes] of live.entries()) {
      const places = await volume.pack(randomBytes(MIB), bytes, randomBytes(MIB));
      const entries = places.map(({ hash, length }, at) => ({
        ...emptyFile(`${index}-${at}`),
        size: length,
        chunks: [hash],
      }));
      await volume.commit({ entries, chunks: places });
      await volume.commitEntries(removed(`${index}-0`), removed(`${index}-2`));
    }
    return live;
  };
  const read = async (path: string) => {
    const { pieces } = await volume.rpc.content(volume.scope, path, undefined);
    const [{ pack, offset, length }] = pieces as [(typeof pieces)[0]];
    const response = await volume.call("GET", `packs/${pack}`, {
      headers: { range: `bytes=${offset}-${offset + length - 1}` },
    });
    return new Uint8Array(await response.arrayBuffer());
  };

  it("is written anew, and deleted once the grace is over: who was told of it still reads there", async () => {
    const live = await mostlyDead();
    const before = await volume.keys();
    await volume.sweepAfter(LATER_MS);
    const during = await volume.keys();
    expect(during).toHaveLength(3);
    expect(during).toEqual(expect.arrayContaining(before));
    expect(await volume.rpc.contents(volume.scope)).toMatchObject({ files: 2, size: 3000, stored_size: 3000 });
    for (const [index, bytes] of live.entries()) expect(await read(`/${index}-1`)).toEqual(bytes);
    await volume.sweepAfter(LATER_MS + DAY_MS);
    expect(await volume.keys()).toEqual(during.filter((pack) => !before.includes(pack)));
    for (const [index, bytes] of live.entries()) expect(await read(`/${index}-1`)).toEqual(bytes);
  });

  it.each(["get", "put"] as const)("stays as long as the bucket fails to %s", async (call) => {
    const live = await mostlyDead();
    await fail(call, true);
    await volume.sweepAfter(LATER_MS);
    await fail(call, false);
    expect(await volume.keys()).toHaveLength(2);
    for (const [index, bytes] of live.entries()) expect(await read(`/${index}-1`)).toEqual(bytes);
    await volume.sweepAfter(LATER_MS + 3_600_000);
    expect(await volume.keys()).toHaveLength(3);
  });

  it("whose rest goes while it is written anew leaves nothing that is counted", async () => {
    await mostlyDead();
    await runInDurableObject(volume.object, (object) => {
      const { SNAPSHOTS: bucket } = (object as unknown as { env: { SNAPSHOTS: R2Bucket } }).env;
      const get = bucket.get.bind(bucket);
      vi.spyOn(bucket, "get").mockImplementationOnce((async (key: string) => {
        await openVolume(env, volume.volumeId).stagePart(volume.scope, "0".repeat(32), 0, {
          entries: [removed("0-1")],
          chunks: [],
        });
        await openVolume(env, volume.volumeId).commit(volume.scope, "0".repeat(32), 1);
        return get(key);
      }) as typeof bucket.get);
    });
    await volume.sweepAfter(LATER_MS);
    await volume.sweepAfter(LATER_MS + DAY_MS);
    await volume.sweepAfter(LATER_MS + 2 * DAY_MS + 3_600_000);
    expect(Object.keys(await volume.tree())).toEqual(["1-1"]);
    expect(await chunksThere()).toBe(1);
    expect(await volume.keys()).toHaveLength(1);
  });
});

it("a volume sweeps as long as there may be anything to sweep, and then no more", async () => {
  await volume.commit(await volume.file("a", randomBytes(10)));
  expect(await volume.sweepAfter(3_600_000)).toBe(true);
  expect(await volume.sweepAfter(LATER_MS)).toBe(true);
  expect(await volume.sweepAfter(3 * DAY_MS)).toBe(true);
  expect(await volume.sweepAfter(3 * DAY_MS)).toBe(false);
});

describe("a deleted volume", () => {
  it("is gone at once, and soon all that it had", async () => {
    await volume.commit(await volume.file("a", randomBytes(10)));
    await volume.putPack(hexId(), randomBytes(10));
    await volume.rpc.destroy({ environment: "other" });
    expect(await volume.tree()).toEqual({ a: "file" });
    await volume.rpc.destroy(volume.scope);
    await volume.rpc.destroy(volume.scope);
    for (const response of [
      await volume.call("GET", "changes"),
      await volume.call("GET", `packs/${hexId()}`),
      await volume.call("PUT", `packs/${hexId()}`, { body: new Uint8Array(1) }),
      await volume.call("POST", "missing", { json: { hashes: [] } }),
      await volume.part(hexId(), 0, { entries: [], chunks: [] }),
      await volume.finish(hexId(), 0),
    ])
      expect([response.status, (await problemOf(response)).code]).toEqual([404, "volume_not_found"]);
    await expect(volume.rpc.contents(volume.scope)).rejects.toMatchObject({ code: "volume_not_found" });
    await expect(volume.rpc.create("main", volume.volumeId)).rejects.toMatchObject({ code: "volume_not_found" });
    await vi.waitFor(async () => expect(await volume.keys()).toEqual([]));
    await volume.sweepAfter(3_600_000 + 1000);
    expect(await volume.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'volume'")).toEqual([]);
    await expect(volume.rpc.contents(volume.scope)).rejects.toMatchObject({ code: "volume_not_found" });
  });

  it("takes a pack with it that came late, and is tried again where the bucket fails", async () => {
    await volume.commit(await volume.file("a", randomBytes(10)));
    await fail("list", true);
    await volume.rpc.destroy(volume.scope);
    await vi.waitFor(async () =>
      expect(await runInDurableObject(volume.object, (_, { storage }) => storage.getAlarm())).toBeGreaterThan(
        Date.now() + 1000,
      ),
    );
    await fail("list", false);
    expect(await volume.keys()).toHaveLength(1);
    await env.SNAPSHOTS.put(`volumes/${volume.volumeId}/${hexId()}`, "late");
    await volume.sweepAfter(3_600_000 + 1000);
    expect(await volume.keys()).toEqual([]);
    expect(await volume.sweepAfter(DAY_MS)).toBe(false);
  });
});
