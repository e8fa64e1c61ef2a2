import { env } from "cloudflare:test";
import { beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { FileInfo } from "../../../src/contract/file.ts";
import { VOLUME_CHUNK_BYTES } from "../../../src/contract/volume-sync.ts";
import { call, newKey } from "../client.ts";
import { directory, emptyFile, problemOf, randomBytes, removed, symlink, VolumeClient } from "./volume-client.ts";

const content = randomBytes(3 * VOLUME_CHUNK_BYTES + 1000);

let volume: VolumeClient;
beforeAll(async () => {
  volume = await VolumeClient.create();
  const big = await volume.file("models/a.bin", content, { mode: 0o4755, uid: 1000, gid: 7 });
  // One chunk of a file that lies in other packs.
  const mixed = {
    ...emptyFile("mixed"),
    size: 2 * VOLUME_CHUNK_BYTES,
    chunks: [big.chunks[2]!.hash, big.chunks[0]!.hash],
  };
  await volume.commit(big, await volume.file("hello.txt", "hello"), {
    entries: [
      mixed,
      emptyFile("empty"),
      directory("models", { mode: 0o1777 }),
      symlink("models/up", "../hello.txt"),
      symlink("latest", "models"),
      symlink("chain", "latest/up"),
      symlink("outside", "../etc/passwd"),
      symlink("absolute", "/models/a.bin"),
      symlink("loop", "loop"),
      emptyFile("deep/er/est/file"),
      emptyFile("deep.txt"),
      emptyFile("was"),
    ],
    chunks: [],
  });
  await volume.commitEntries(removed("was"));
});

let get: (
  what: string,
  query?: Record<string, string>,
  options?: { method?: string; range?: string; key?: string },
) => Promise<Response>;
beforeEach(() => {
  get = (what, query = {}, { method = "GET", range, key } = {}) =>
    call(method, `/v1/volumes/${volume.volumeId}/files${what}?${new URLSearchParams(query)}`, {
      headers: range === undefined ? {} : { range },
      ...(key !== undefined && { key }),
    });
});
const codeOf = async (response: Response) => (await problemOf(response)).code;
const stat = async (path: string) => (await get("/stat", { path })).json<FileInfo>();
const list = async (query: Record<string, string>) =>
  (await get("/list", query)).json<{ data: FileInfo[]; next_cursor?: string }>();

describe("the content of a file", () => {
  it("streams whole, from several packs, with its length", async () => {
    for (const path of ["/models/a.bin", "/latest/a.bin", "//models/./a.bin", "/../models/../models/a.bin"]) {
      const response = await get("", { path });
      expect([path, response.status, response.headers.get("content-length")]).toEqual([
        path,
        200,
        String(content.length),
      ]);
      expect(response.headers.get("content-type")).toBe("application/octet-stream");
      expect(new Uint8Array(await response.arrayBuffer())).toEqual(content);
    }
    const mixed = new Uint8Array(await (await get("", { path: "/mixed" })).arrayBuffer());
    expect(mixed.subarray(0, VOLUME_CHUNK_BYTES)).toEqual(
      content.subarray(2 * VOLUME_CHUNK_BYTES, 3 * VOLUME_CHUNK_BYTES),
    );
    expect(mixed.subarray(VOLUME_CHUNK_BYTES)).toEqual(content.subarray(0, VOLUME_CHUNK_BYTES));
  });

  it.each([
    ["bytes=0-0", 0, 0],
    ["bytes=100-199", 100, 199],
    [`bytes=${VOLUME_CHUNK_BYTES - 1}-${VOLUME_CHUNK_BYTES}`, VOLUME_CHUNK_BYTES - 1, VOLUME_CHUNK_BYTES],
    [`bytes=${VOLUME_CHUNK_BYTES}-${2 * VOLUME_CHUNK_BYTES - 1}`, VOLUME_CHUNK_BYTES, 2 * VOLUME_CHUNK_BYTES - 1],
    ["bytes=10-", 10, content.length - 1],
    ["bytes=-1001", content.length - 1001, content.length - 1],
    ["bytes=-99999999", 0, content.length - 1],
    [`bytes=3145728-9999999`, 3_145_728, content.length - 1],
  ])("has ranges: %s", async (range, first, last) => {
    const response = await get("", { path: "/models/a.bin" }, { range });
    expect([response.status, response.headers.get("content-range"), response.headers.get("content-length")]).toEqual([
      206,
      `bytes ${first}-${last}/${content.length}`,
      String(last - first + 1),
    ]);
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(content.slice(first, last + 1));
  });

  it("has no range behind its end", async () => {
    const response = await get("", { path: "/hello.txt" }, { range: "bytes=5-" });
    expect([response.status, response.headers.get("content-range")]).toEqual([416, "bytes */5"]);
    await response.body?.cancel();
    expect((await get("", { path: "/empty" }, { range: "bytes=0-" })).status).toBe(416);
  });

  it("of an empty file is empty, and of HEAD there is none", async () => {
    const empty = await get("", { path: "/empty" });
    expect([empty.status, await empty.text()]).toEqual([200, ""]);
    const head = await get("", { path: "/models/a.bin" }, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([
      200,
      String(content.length),
      "",
    ]);
  });

  it.each([
    ["/nothing", "file_not_found"],
    ["/was", "file_not_found"],
    ["/models", "is_a_directory"],
    ["/", "is_a_directory"],
    ["/latest", "is_a_directory"],
    ["/hello.txt/", "not_a_directory"],
    ["/hello.txt/x", "not_a_directory"],
    ["/hello.txt/..", "not_a_directory"],
    ["/outside", "file_not_found"],
    ["/absolute", "file_not_found"],
    ["/loop", "file_not_found"],
    ["relative", "invalid_request"],
  ])("of %s is %s", async (path, code) => {
    expect(await codeOf(await get("", { path }))).toBe(code);
  });

  it("follows links that stay in the volume", async () => {
    for (const path of ["/chain", "/models/up", "/latest/up"])
      expect(await (await get("", { path })).text()).toBe("hello");
  });

  it("that the bucket does not give now is an error before the first byte", async () => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    vi.spyOn(env.SNAPSHOTS, "get").mockRejectedValue(new Error("R2 is away (10001)"));
    const response = await get("", { path: "/hello.txt" });
    vi.restoreAllMocks();
    expect([response.status, await codeOf(response)]).toEqual([503, "backend_unavailable"]);
    expect(await (await get("", { path: "/hello.txt" })).text()).toBe("hello");
  });
});

describe("stat", () => {
  it("tells of a file, a directory, a link and the root", async () => {
    expect(await stat("/models/a.bin")).toEqual({
      name: "a.bin",
      path: "/models/a.bin",
      type: "file",
      size: content.length,
      mode: "4755",
      permissions: "-rwsr-xr-x",
      owner: "1000",
      group: "7",
      modified_at: "2023-11-14T22:13:20.123456789Z",
    });
    expect(await stat("/models/")).toMatchObject({
      name: "models",
      path: "/models",
      type: "directory",
      permissions: "drwxrwxrwt",
    });
    expect(await stat("/chain")).toMatchObject({ type: "symlink", symlink_target: "latest/up", size: 9 });
    expect(await stat("/latest/up")).toMatchObject({
      path: "/latest/up",
      type: "symlink",
      symlink_target: "../hello.txt",
    });
    expect(await stat("/")).toMatchObject({ name: "/", path: "/", type: "directory", mode: "755" });
    expect(await codeOf(await get("/stat", { path: "/nothing" }))).toBe("file_not_found");
  });

  it.each([
    ["-1", "1969-12-31T23:59:59.999999999Z"],
    ["0", "1970-01-01T00:00:00.000000000Z"],
    ["-99999999999999999999", "0001-01-01T00:00:00.000000001Z"],
    ["99999999999999999999", "5138-11-16T09:46:39.999999999Z"],
  ])("of the time %s is %s", async (mtime, date) => {
    const other = await VolumeClient.create();
    await other.commitEntries(emptyFile("a", { mtime, mode: 0o7000 }));
    expect(await other.rpc.stat(other.scope, "/a")).toMatchObject({
      modified_at: date,
      permissions: "---S--S--T",
      mode: "7000",
    });
  });
});

describe("list", () => {
  const TOP = [
    "absolute",
    "chain",
    "deep",
    "deep.txt",
    "empty",
    "hello.txt",
    "latest",
    "loop",
    "mixed",
    "models",
    "outside",
  ];

  it("shows a directory, down to a depth, in the order of the paths", async () => {
    expect((await list({ path: "/" })).data.map(({ path }) => path)).toEqual(TOP.map((name) => `/${name}`));
    expect((await list({ path: "/deep" })).data.map(({ path }) => path)).toEqual(["/deep/er"]);
    expect((await list({ path: "/deep", depth: "3" })).data.map(({ path }) => path)).toEqual([
      "/deep/er",
      "/deep/er/est",
      "/deep/er/est/file",
    ]);
    expect((await list({ path: "/latest/" })).data.map(({ path }) => path)).toEqual(["/latest/a.bin", "/latest/up"]);
  });

  it.each(["/", "/latest"])("goes on page after page: %s", async (path) => {
    const whole = (await list({ path, depth: "100" })).data;
    const paged: FileInfo[] = [];
    for (let cursor: string | undefined; ;) {
      const page = await list({ path, depth: "100", limit: "1", ...(cursor !== undefined && { cursor }) });
      paged.push(...page.data);
      cursor = page.next_cursor;
      if (cursor === undefined) break;
    }
    expect(paged).toEqual(whole);
  });

  it("is of directories alone", async () => {
    expect(await codeOf(await get("/list", { path: "/hello.txt" }))).toBe("not_a_directory");
    expect(await codeOf(await get("/list", { path: "/nothing" }))).toBe("file_not_found");
    expect(await codeOf(await get("/list", { path: "/", cursor: "%%" }))).toBe("invalid_request");
  });
});

it("a volume of another environment, or none at all, is not there", async () => {
  const { key } = await newKey(["read"], "elsewhere");
  for (const what of ["", "/stat", "/list"]) {
    expect(await codeOf(await get(what, { path: "/" }, { key }))).toBe("volume_not_found");
    expect(await codeOf(await call("GET", `/v1/volumes/nonsense/files${what}?path=/`))).toBe("volume_not_found");
    expect((await get(what, { path: "/" }, { key: await volume.token() })).status).toBe(401);
  }
});
