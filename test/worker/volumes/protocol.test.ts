import { env } from "cloudflare:test";
import { describe, expect, it, vi } from "vitest";
import { newId } from "../../../src/contract/ids.ts";
import { MAX_PACK_BYTES, signVolumeGrant, VOLUME_CHUNK_BYTES } from "../../../src/contract/volume-sync.ts";
import { openVolume } from "../../../src/volumes/client.ts";
import { ORIGIN, send } from "../client.ts";
import {
  ahead,
  DAY_MS,
  directory,
  emptyFile,
  hashOf,
  hexId,
  problemOf,
  randomBytes,
  removed,
  symlink,
  VolumeClient,
} from "./volume-client.ts";

const codeOf = async (response: Response) => (await problemOf(response)).code;

describe("a commit", () => {
  it("makes a version of all its parts, and what it says is what changes tell", async () => {
    const volume = await VolumeClient.create();
    const content = randomBytes(VOLUME_CHUNK_BYTES + 100);
    const big = await volume.file("models/a.bin", content, { mode: 0o4755, uid: 1000, gid: 1001 });
    const version = await volume.commit(big, {
      entries: [emptyFile("empty"), directory("models", { mode: 0o700 }), symlink("link", "models/a.bin")],
      chunks: [],
    });
    expect(version).toBe(1);
    const changes = await volume.changes();
    expect(changes).toEqual({
      version: 1,
      entries: [
        emptyFile("empty"),
        symlink("link", "models/a.bin"),
        directory("models", { mode: 0o700 }),
        big.entries[0],
      ],
    });
    expect(await volume.rpc.contents(volume.scope)).toMatchObject({
      version: 1,
      committed_at: expect.any(String),
      files: 2,
      size: content.length,
      stored_size: content.length,
    });
  });

  it("tells those who have a version only what is new, removed entries too", async () => {
    const volume = await VolumeClient.create();
    await volume.commitEntries(emptyFile("a"), emptyFile("b"), emptyFile("c"));
    await volume.commitEntries(removed("a"), emptyFile("b", { mode: 0o600 }));
    expect(await volume.changes({ since: 1 })).toEqual({
      version: 2,
      entries: [removed("a"), emptyFile("b", { mode: 0o600 })],
    });
    expect((await volume.changes()).entries.map(({ path }) => path)).toEqual(["c", "b"]);
    expect(await volume.changes({ since: 2 })).toEqual({ version: 2, entries: [] });
  });

  it("is made once, however often and however late it is asked for", async () => {
    const volume = await VolumeClient.create();
    const commitId = hexId();
    await volume.part(commitId, 0, { entries: [emptyFile("a")], chunks: [] });
    const answers = await Promise.all([1, 2, 3].map(() => volume.finish(commitId, 1)));
    expect(await Promise.all(answers.map((answer) => answer.json()))).toEqual([1, 2, 3].map(() => ({ version: 1 })));
    await volume.commitEntries(removed("a"));
    const late = await ahead(29 * DAY_MS, () => volume.rpc.commit(volume.scope, commitId, 1));
    expect(late).toBe(1);
    expect(await volume.tree()).toEqual({});
  });

  it("with a part put again has what that says, and no more; of parts beyond its number nothing", async () => {
    const volume = await VolumeClient.create();
    const commitId = hexId();
    const [one, other] = [await volume.file("a", "one"), await volume.file("a", "other")];
    for (const part of [one, { entries: [emptyFile("gone")], chunks: [] }, other]) await volume.part(commitId, 0, part);
    await volume.part(commitId, 1, { entries: [emptyFile("left/over")], chunks: [] });
    expect((await volume.finish(commitId, 1)).status).toBe(200);
    expect((await volume.changes()).entries).toEqual(other.entries);
    for (const table of ["staged", "staged_parts", "staged_chunks", "parents"])
      expect([table, await volume.rows(`SELECT * FROM ${table}`)]).toEqual([table, []]);
  });

  it("of nothing, or that changes nothing, makes no version", async () => {
    const volume = await VolumeClient.create();
    expect(await volume.commit()).toBe(0);
    expect(await volume.commitEntries(removed("never/there"))).toBe(0);
    expect(await volume.rpc.contents(volume.scope)).toEqual({ version: 0, files: 0, size: 0, stored_size: 0 });
  });
});

describe("chunks", () => {
  it("that are there are not missing, and lie where they were put first", async () => {
    const volume = await VolumeClient.create();
    const [a, b, c] = [randomBytes(10), randomBytes(20), randomBytes(30)];
    const places = await volume.pack(a, b);
    await volume.commit({ entries: [{ ...emptyFile("a"), size: 10, chunks: [places[0]!.hash] }], chunks: places });
    await volume.commit({ entries: [], chunks: await volume.pack(b, c) });
    const hashes = await Promise.all([randomBytes(1), a, b, c].map(hashOf));
    const missing = await volume.call("POST", "missing", { json: { hashes } });
    expect(await missing.json()).toEqual({ hashes: [hashes[0]] });
    const located = await volume.call("POST", "locate", { json: { hashes: hashes.slice(0, 3) } });
    const { chunks } = await located.json<{ chunks: unknown[] }>();
    expect(chunks).toHaveLength(2);
    expect(chunks).toEqual(expect.arrayContaining(places));
  });
});

describe("a pack", () => {
  it("is read whole and by its ranges", async () => {
    const volume = await VolumeClient.create();
    const bytes = randomBytes(1000);
    const { pack } = (await volume.pack(bytes))[0]!;
    const get = (range?: string) => volume.call("GET", `packs/${pack}`, { headers: range ? { range } : {} });
    const whole = await get();
    expect([whole.status, new Uint8Array(await whole.arrayBuffer())]).toEqual([200, bytes]);
    for (const [range, first, last] of [
      ["bytes=0-0", 0, 0],
      ["bytes=10-19", 10, 19],
      ["bytes=990-", 990, 999],
      ["bytes=990-5000", 990, 999],
      ["bytes=-5", 995, 999],
    ] as const) {
      const response = await get(range);
      expect([range, response.status, response.headers.get("content-range")]).toEqual([
        range,
        206,
        `bytes ${first}-${last}/1000`,
      ]);
      expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes.slice(first, last + 1));
    }
    const outside = await get("bytes=1000-");
    expect([outside.status, outside.headers.get("content-range")]).toEqual([416, "bytes */1000"]);
    await outside.body?.cancel();
    expect(await codeOf(await volume.call("GET", `packs/${hexId()}`))).toBe("file_not_found");
  });

  it("may be put again, and stays what it was", async () => {
    const volume = await VolumeClient.create();
    const pack = hexId();
    await volume.putPack(pack, new Uint8Array([1, 2, 3]));
    await volume.putPack(pack, new Uint8Array([4, 5, 6]));
    const response = await volume.call("GET", `packs/${pack}`);
    expect([...new Uint8Array(await response.arrayBuffer())]).toEqual([1, 2, 3]);
    expect(await codeOf(await volume.call("PUT", `packs/${pack}`, { body: new Uint8Array(4) }))).toBe("conflict");
  });

  it("needs its length, and is of 32 MiB at most", async () => {
    const volume = await VolumeClient.create();
    const { readable, writable } = new IdentityTransformStream();
    void writable.close().catch(() => undefined);
    expect(await codeOf(await volume.call("PUT", `packs/${hexId()}`, { body: readable }))).toBe("invalid_request");
    expect(await codeOf(await volume.call("PUT", `packs/${hexId()}`))).toBe("invalid_request");
    const tooLong = await volume.call("PUT", `packs/${hexId()}`, { body: new Uint8Array(MAX_PACK_BYTES + 1) });
    expect(await codeOf(tooLong)).toBe("payload_too_large");
    expect(await volume.keys()).toEqual([]);
  });
});

describe("a grant", () => {
  it("is needed, and good for its volume and for what it says", async () => {
    const volume = await VolumeClient.create();
    const path = `${ORIGIN}/v1/volumes/${volume.volumeId}/sync/changes`;
    const asked = async (authorization?: string) => {
      const response = await send(new Request(path, { headers: authorization === undefined ? {} : { authorization } }));
      return [response.status, await codeOf(response)];
    };
    for (const authorization of [undefined, "Bearer nonsense", `Bearer ${env.ADMIN_KEY!}`, "Basic YTpi"])
      expect(await asked(authorization)).toEqual([401, "unauthenticated"]);
    expect(
      await asked(`Bearer ${await signVolumeGrant("another secret, as long as it must be", volume.grant)}`),
    ).toEqual([401, "unauthenticated"]);
    const token = await volume.token();
    const { iat, exp } = JSON.parse(atob(token.split(".")[1]!)) as { iat: number; exp: number };
    expect(exp - iat).toBe(7 * 86_400);
    vi.useFakeTimers({ now: (exp + 1) * 1000, toFake: ["Date"] });
    expect(await asked(`Bearer ${token}`)).toEqual([401, "unauthenticated"]);
    vi.useRealTimers();
    const other = await VolumeClient.create();
    expect(await asked(`Bearer ${await other.token()}`)).toEqual([404, "volume_not_found"]);
    expect(await codeOf(await volume.with({ environment: "other" }).call("GET", "changes"))).toBe("volume_not_found");
  });

  it("to read is none to write", async () => {
    const volume = (await VolumeClient.create()).with({ access: "read" });
    for (const response of [
      await volume.call("PUT", `packs/${hexId()}`, { body: new Uint8Array(1) }),
      await volume.part(hexId(), 0, { entries: [], chunks: [] }),
      await volume.finish(hexId(), 0),
    ])
      expect([response.status, await codeOf(response)]).toEqual([403, "forbidden"]);
    expect((await volume.call("POST", "missing", { json: { hashes: [] } })).status).toBe(200);
    expect(await volume.keys()).toEqual([]);
  });

  it("for what lies below a path shows and takes nothing else", async () => {
    const volume = await VolumeClient.create();
    await volume.commitEntries(emptyFile("a/b/one"), emptyFile("a/bb"), emptyFile("a/b.txt"), emptyFile("top"));
    const below = volume.with({ prefix: "a/b" });
    expect((await below.changes()).entries).toEqual([emptyFile("a/b/one")]);
    expect((await below.changes({ prefix: "a/b/one" })).entries).toEqual([]);
    expect(await codeOf(await below.call("GET", "changes?prefix=a"))).toBe("forbidden");
    for (const path of ["top", "a/bb", "a/b", "a/b.txt"]) {
      expect(await codeOf(await below.tryCommit({ entries: [removed(path)], chunks: [] }))).toBe("forbidden");
      expect(await codeOf(await below.tryCommit({ entries: [emptyFile("a/b/x"), emptyFile(path)], chunks: [] }))).toBe(
        "forbidden",
      );
    }
    expect(await below.commitEntries(emptyFile("a/b/two"), removed("a/b/one"))).toBe(2);
    expect(Object.keys(await volume.tree())).toEqual(["a", "a/b", "a/b.txt", "a/b/two", "a/bb", "top"]);
    const fresh = volume.with({ prefix: "made/here" });
    await fresh.commitEntries(emptyFile("made/here/x"));
    expect(await volume.tree()).toMatchObject({ made: "directory", "made/here": "directory", "made/here/x": "file" });
  });
});

it("a volume that was never made, or was made for another environment, is not there", async () => {
  const volumeId = newId("volume");
  const volume = new VolumeClient({ volume_id: volumeId, environment: "main", access: "write" });
  expect(await codeOf(await volume.call("GET", "changes"))).toBe("volume_not_found");
  expect(await codeOf(await volume.call("PUT", `packs/${hexId()}`, { body: new Uint8Array(1) }))).toBe(
    "volume_not_found",
  );
  expect(await volume.keys()).toEqual([]);
  await volume.rpc.create("main", volumeId);
  await volume.rpc.create("main", volumeId);
  await expect(volume.rpc.create("other", volumeId)).rejects.toMatchObject({ code: "volume_not_found" });
  await expect(volume.rpc.contents({ environment: "other" })).rejects.toMatchObject({ code: "volume_not_found" });
  expect(() => openVolume(env, "vo-short")).toThrow(expect.objectContaining({ code: "volume_not_found" }));
});
