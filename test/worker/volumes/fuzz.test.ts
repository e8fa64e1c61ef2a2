import { beforeAll, describe, expect, it } from "vitest";
import {
  MAX_ENTRIES_A_PART,
  MAX_HASHES_A_CALL,
  MAX_SYNC_JSON_BYTES,
  type VolumeChanges,
} from "../../../src/contract/volume-sync.ts";
import { call } from "../client.ts";
import { directory, emptyFile, hexId, problemOf, removed, symlink, VolumeClient } from "./volume-client.ts";

let volume: VolumeClient;
let before: VolumeChanges;
beforeAll(async () => {
  volume = await VolumeClient.create();
  await volume.commitEntries(emptyFile("a/b"), directory("d"), symlink("l", "a"));
  before = await volume.changes();
});

/** Refused with a problem of this status, and the volume is what it was. */
async function expectRefused(response: Response, ...statuses: number[]): Promise<void> {
  const problem = await problemOf(response);
  expect(statuses, JSON.stringify(problem)).toContain(response.status);
  expect(response.headers.get("x-request-id")).toBe(problem["request_id"]);
  expect(await volume.changes()).toEqual(before);
}

const file = emptyFile("x");
const hash = "0".repeat(64);
const place = { hash, pack: hexId(), offset: 0, length: 1 };
const BAD_PATHS = [
  "",
  "/",
  "/x",
  "x/",
  "a//b",
  ".",
  "..",
  "a/../b",
  "./a",
  "a/.",
  "nul\0",
  "\ud800",
  "a/\udfff/b",
  "x".repeat(4097),
  7,
  null,
];

describe("a part", () => {
  it.each(BAD_PATHS)("with the path %j is refused", async (path) => {
    for (const entry of [
      { ...file, path },
      { ...directory("x"), path },
      { ...removed("x"), path },
    ])
      await expectRefused(
        await volume.call("POST", `commits/${hexId()}/parts/0`, { json: { entries: [entry], chunks: [] } }),
        400,
      );
  });

  it.each([
    ["nothing", {}],
    ["a list", []],
    ["null", null],
    ["text", "x"],
    ["an unknown field", { entries: [], chunks: [], more: 1 }],
    ["an unknown type", { entries: [{ ...file, type: "device" }], chunks: [] }],
    ["an unknown field of an entry", { entries: [{ ...file, xattr: 1 }], chunks: [] }],
    ["a mode that is none", { entries: [{ ...file, mode: 0o10000 }], chunks: [] }],
    ["a mode that is text", { entries: [{ ...file, mode: "644" }], chunks: [] }],
    ["a user below 0", { entries: [{ ...file, uid: -1 }], chunks: [] }],
    ["a user that is no whole number", { entries: [{ ...file, uid: 0.5 }], chunks: [] }],
    ["a time that is none", { entries: [{ ...file, mtime: "yesterday" }], chunks: [] }],
    ["a time that is too long", { entries: [{ ...file, mtime: "1".repeat(21) }], chunks: [] }],
    ["a size without chunks", { entries: [{ ...file, size: 1 }], chunks: [] }],
    ["a size below 0", { entries: [{ ...file, size: -1 }], chunks: [] }],
    ["a size beyond all", { entries: [{ ...file, size: 1e300 }], chunks: [] }],
    ["chunks without a size", { entries: [{ ...file, chunks: [hash] }], chunks: [] }],
    ["a hash that is none", { entries: [{ ...file, size: 1, chunks: ["xyz"] }], chunks: [] }],
    ["a hash in capitals", { entries: [{ ...file, size: 1, chunks: ["A".repeat(64)] }], chunks: [] }],
    ["a link to nothing", { entries: [symlink("x", "")], chunks: [] }],
    ["a link with a NUL", { entries: [symlink("x", "a\0b")], chunks: [] }],
    ["a link that is no text", { entries: [symlink("x", "\ud800")], chunks: [] }],
    ["a place before its pack", { entries: [], chunks: [{ ...place, offset: -1 }] }],
    ["a place that is too long", { entries: [], chunks: [{ ...place, length: 2 ** 20 + 1 }] }],
    ["a pack that is none", { entries: [], chunks: [{ ...place, pack: "../x" }] }],
    ["too many packs", { entries: [], chunks: Array.from({ length: 501 }, () => ({ ...place, pack: hexId() })) }],
    ["too many places", { entries: [], chunks: Array.from({ length: MAX_HASHES_A_CALL + 1 }, () => place) }],
    [
      "too many entries",
      { entries: Array.from({ length: MAX_ENTRIES_A_PART + 1 }, (_, at) => removed(`x${at}`)), chunks: [] },
    ],
  ])("of %s is refused", async (_, json) => {
    await expectRefused(await volume.call("POST", `commits/${hexId()}/parts/0`, { json }), 400);
  });

  it.each(["", "{", "[1,", "\u0000", "nul", "{}{}"])("that is no JSON is refused: %j", async (body) => {
    for (const path of [`commits/${hexId()}/parts/0`, `commits/${hexId()}`, "missing", "locate"])
      await expectRefused(await volume.call("POST", path, { body }), 400);
  });

  it("that is too long is refused", async () => {
    const body = `"${"x".repeat(MAX_SYNC_JSON_BYTES)}"`;
    await expectRefused(await volume.call("POST", `commits/${hexId()}/parts/0`, { body }), 413);
  });
});

it.each(["-1", "1.5", "x", "100000", "%00", " 1", "1e3"])("the number of a part cannot be %s", async (number) => {
  await expectRefused(
    await volume.call("POST", `commits/${hexId()}/parts/${number}`, { json: { entries: [], chunks: [] } }),
    400,
  );
});

it.each(["x", "A".repeat(32), "0".repeat(31), "0".repeat(33), "'; DROP TABLE entries;--"])(
  "an id cannot be %s",
  async (id) => {
    await expectRefused(await volume.call("POST", `commits/${id}`, { json: { parts: 0 } }), 400);
    await expectRefused(await volume.call("POST", `commits/${id}/parts/0`, { json: { entries: [], chunks: [] } }), 400);
    await expectRefused(await volume.call("GET", `packs/${id}`), 400);
    await expectRefused(await volume.call("PUT", `packs/${id}`, { body: "x" }), 400);
  },
);

it.each([{ parts: -1 }, { parts: 0.5 }, { parts: "1" }, { parts: 1e9 }, {}, { parts: 1, more: 1 }])(
  "a commit cannot be of %j",
  async (json) => {
    await expectRefused(await volume.call("POST", `commits/${hexId()}`, { json }), 400);
  },
);

it.each([
  "since=-1",
  "since=x",
  "since=2",
  "since=99999999999999999999",
  "limit=0",
  "limit=5001",
  "prefix=/a",
  "prefix=a/../b",
  "prefix=",
  "after=x",
  "after=",
  "after=W10",
  "more=1",
])("changes cannot be asked for with %s", async (query) => {
  await expectRefused(await volume.call("GET", `changes?${query}`), 400);
});

it.each([
  { hashes: ["x"] },
  { hashes: [7] },
  { hashes: Array.from({ length: MAX_HASHES_A_CALL + 1 }, () => hash) },
  { hashes: null },
  [],
])("chunks cannot be asked for with %j", async (json) => {
  await expectRefused(await volume.call("POST", "missing", { json }), 400);
  await expectRefused(await volume.call("POST", "locate", { json }), 400);
});

it.each([
  ["GET", "nothing", 404],
  ["GET", "packs", 404],
  ["GET", "packs/a/b", 404],
  ["POST", "commits/x/parts", 404],
  ["DELETE", "changes", 405],
  ["POST", "changes", 405],
  ["GET", "missing", 405],
  ["DELETE", `packs/${hexId()}`, 405],
])("%s %s is %i", async (method, path, status) => {
  await expectRefused(await volume.call(method, path), status);
});

describe("the files of a volume", () => {
  it.each(["", "?path=", "?path=x", "?path=/x&more=1", "?path=/a%00b", `?path=/${"x".repeat(4097)}`])(
    "cannot be asked for with %j",
    async (query) => {
      for (const what of ["", "/stat", "/list"])
        await expectRefused(await call("GET", `/v1/volumes/${volume.volumeId}/files${what}${query}`), 400);
    },
  );

  it.each(["depth=0", "depth=101", "limit=0", "limit=10001", "cursor=x", "cursor=", "depth=x"])(
    "cannot be listed with %s",
    async (query) => {
      await expectRefused(await call("GET", `/v1/volumes/${volume.volumeId}/files/list?path=/&${query}`), 400);
    },
  );

  it.each(["bytes=9-1", "bytes=", "bytes=a-b", "items=0-1", "bytes=0-0,2-3", "bytes=-"])(
    "are whole where the range is none: %s",
    async (range) => {
      const response = await call("GET", `/v1/volumes/${volume.volumeId}/files?path=/a/b`, { headers: { range } });
      expect([response.status, (await response.arrayBuffer()).byteLength]).toEqual([200, 0]);
    },
  );
});
