import { env, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import { VOLUME_CHUNK_BYTES, type CommitPart, type VolumeEntry } from "../../../src/contract/volume-sync.ts";
import { directory, emptyFile, hashOf, hexId, problemOf, randomBytes, removed, VolumeClient } from "./volume-client.ts";

afterEach(() => vi.restoreAllMocks());

const BEFORE = [directory("d"), emptyFile("d/old"), emptyFile("kept")];

/** A volume with something in it, a commit that changes all of it, and what it is before and after. */
async function changing() {
  const volume = await VolumeClient.create();
  await volume.commitEntries(...BEFORE);
  const one = await volume.file("d/new", randomBytes(VOLUME_CHUNK_BYTES + 1));
  const two: CommitPart = { entries: [removed("d/old"), emptyFile("kept", { mode: 0o600 })], chunks: [] };
  const commitId = hexId();
  for (const [number, part] of [one, two].entries())
    expect((await volume.part(commitId, number, part)).status).toBe(204);
  const after = [directory("d"), one.entries[0]!, emptyFile("kept", { mode: 0o600 })];
  return { volume, commitId, after };
}
const stateOf = async (volume: VolumeClient) => {
  const { version, entries } = await volume.changes();
  const { files, size } = await volume.rpc.contents(volume.scope);
  return { version, entries: entries.toSorted((a, b) => (a.path < b.path ? -1 : 1)), files, size };
};
const OLD = { version: 1, entries: BEFORE, files: 2, size: 0 };
const newState = (entries: VolumeEntry[]) => ({ version: 2, entries, files: 2, size: VOLUME_CHUNK_BYTES + 1 });

it("a commit that fails at any of its statements leaves the old version, and is made when it is tried again", async () => {
  const { volume, commitId, after } = await changing();
  let failed = 0;
  for (let failing = 0; ; failing += 1) {
    let left = failing;
    const isMade = await runInDurableObject(volume.object, async (object, { storage }) => {
      const { exec } = Object.getPrototypeOf(storage.sql) as SqlStorage;
      const spy = vi.spyOn(Object.getPrototypeOf(storage.sql) as SqlStorage, "exec").mockImplementation(function (
        this: SqlStorage,
        ...args
      ) {
        left -= 1;
        if (left === -1) throw new Error("The object is killed here.");
        return exec.apply(this, args);
      } as typeof exec);
      try {
        await object.commit(volume.scope, commitId, 2);
        return true;
      } catch {
        return false;
      } finally {
        spy.mockRestore();
      }
    });
    if (isMade && left >= 0) break;
    failed += 1;
    const state = await stateOf(volume);
    // What fails behind the commit does not take it back.
    expect(state).toEqual(state.version === 1 ? OLD : newState(after));
    expect(await volume.rows("SELECT * FROM parents")).toEqual([]);
  }
  expect(failed).toBeGreaterThan(15);
  expect(await stateOf(volume)).toEqual(newState(after));
});

it("an object that goes away between the parts and the commit has lost nothing", async () => {
  const { volume, commitId, after } = await changing();
  await evictDurableObject(volume.object);
  expect(await stateOf(volume)).toEqual(OLD);
  await evictDurableObject(volume.object);
  expect((await volume.finish(commitId, 2)).status).toBe(200);
  await evictDurableObject(volume.object);
  expect(await stateOf(volume)).toEqual(newState(after));
  expect(await (await volume.finish(commitId, 2)).json()).toEqual({ version: 2 });
});

describe("refused, with nothing changed:", () => {
  const file = (hashes: string[], size: number): VolumeEntry => ({ ...emptyFile("d/new"), size, chunks: hashes });
  const cases: [string, string, string, (volume: VolumeClient) => Promise<CommitPart>][] = [
    [
      "a chunk that no pack has",
      "conflict",
      "is in no pack",
      async () => ({ entries: [file([await hashOf(randomBytes(5))], 5)], chunks: [] }),
    ],
    [
      "a pack that is not there",
      "conflict",
      "is not there",
      async () => {
        const hash = await hashOf(randomBytes(5));
        return { entries: [file([hash], 5)], chunks: [{ hash, pack: hexId(), offset: 0, length: 5 }] };
      },
    ],
    [
      "a chunk behind the end of its pack",
      "invalid_request",
      "behind the end",
      async (volume) => {
        const [place] = await volume.pack(randomBytes(5));
        return { entries: [file([place!.hash], 6)], chunks: [{ ...place!, length: 6 }] };
      },
    ],
    [
      "chunks that are shorter than the file",
      "invalid_request",
      "not of its size",
      async (volume) => {
        const chunks = await volume.pack(randomBytes(5));
        return { entries: [file([chunks[0]!.hash], 6)], chunks };
      },
    ],
    [
      "a short chunk that is not the last",
      "invalid_request",
      "not of its size",
      async (volume) => {
        const chunks = await volume.pack(randomBytes(5), randomBytes(VOLUME_CHUNK_BYTES));
        return {
          entries: [
            file(
              chunks.map(({ hash }) => hash),
              VOLUME_CHUNK_BYTES + 5,
            ),
          ],
          chunks,
        };
      },
    ],
    [
      "a wrong number of chunks",
      "invalid_request",
      "cannot be of 1 chunks",
      async () => ({ entries: [file([await hashOf(randomBytes(5))], 0)], chunks: [] }),
    ],
  ];
  it.each(cases)("%s", async (_, code, detail, make) => {
    const volume = await VolumeClient.create();
    await volume.commitEntries(...BEFORE);
    const part = await make(volume);
    part.entries.push(removed("d/old"));
    expect(await problemOf(await volume.tryCommit(part))).toMatchObject({
      code,
      detail: expect.stringContaining(detail),
    });
    expect(await stateOf(volume)).toEqual(OLD);
  });

  it.each([
    [0, [1, 2]],
    [1, [0]],
    [3, [0, 1]],
  ])("a commit of which part %i is missing", async (_, there) => {
    const volume = await VolumeClient.create();
    await volume.commitEntries(...BEFORE);
    const commitId = hexId();
    for (const number of there) await volume.part(commitId, number, { entries: [emptyFile(`p${number}`)], chunks: [] });
    expect(await problemOf(await volume.finish(commitId, there.length + 1))).toMatchObject({ code: "conflict" });
    expect(await stateOf(volume)).toEqual(OLD);
  });
});

describe("a bucket that fails", () => {
  const failing = (volume: VolumeClient, call: "put" | "head" | "get") =>
    runInDurableObject(volume.object, (object) => {
      vi.spyOn(console, "error").mockReturnValue(undefined);
      const { SNAPSHOTS: bucket } = (object as unknown as { env: { SNAPSHOTS: R2Bucket } }).env;
      vi.spyOn(bucket, call).mockRejectedValue(new Error("R2 is away (10001)"));
      vi.spyOn(env.SNAPSHOTS, call).mockRejectedValue(new Error("R2 is away (10001)"));
    });

  it("while a part is taken in makes it fail, and the volume what it was; tried again it is made", async () => {
    const volume = await VolumeClient.create();
    await volume.commitEntries(...BEFORE);
    const part = await volume.file("d/new", randomBytes(VOLUME_CHUNK_BYTES + 1));
    const commitId = hexId();
    await failing(volume, "head");
    const response = await volume.part(commitId, 0, part);
    expect([response.status, (await problemOf(response)).code]).toEqual([502, "volume_not_stored"]);
    expect((await volume.finish(commitId, 1)).status).toBe(409);
    vi.restoreAllMocks();
    expect(await stateOf(volume)).toEqual(OLD);
    expect((await volume.part(commitId, 0, part)).status).toBe(204);
    expect((await volume.finish(commitId, 1)).status).toBe(200);
  });

  it("while a pack is put or read says so, and nothing is lost", async () => {
    const volume = await VolumeClient.create();
    const places = await volume.pack(randomBytes(10));
    await failing(volume, "put");
    const put = await volume.call("PUT", `packs/${hexId()}`, { body: randomBytes(10) });
    expect([put.status, (await problemOf(put)).code]).toEqual([502, "volume_not_stored"]);
    await failing(volume, "get");
    const got = await volume.call("GET", `packs/${places[0]!.pack}`);
    expect([got.status, (await problemOf(got)).code]).toEqual([503, "backend_unavailable"]);
    vi.restoreAllMocks();
    expect(await volume.keys()).toEqual([places[0]!.pack]);
  });
});

it("a pack that breaks off on its way leaves nothing, and can be put again", async () => {
  vi.spyOn(console, "error").mockReturnValue(undefined);
  const volume = await VolumeClient.create();
  const pack = hexId();
  const { readable, writable } = new IdentityTransformStream();
  const broken = volume.call("PUT", `packs/${pack}`, { body: readable, headers: { "content-length": "100" } });
  const writer = writable.getWriter();
  await writer.write(new Uint8Array(50));
  await writer.close();
  expect([(await broken).status, await volume.keys()]).toEqual([502, []]);
  await volume.putPack(pack, randomBytes(100));
  expect(await volume.keys()).toEqual([pack]);
});
