import { env } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { ERRORS, FILE_CODES } from "../../src/contract/errors.ts";
import { FileInfoSchema, type FileInfo } from "../../src/contract/file.ts";
import type { Page } from "../../src/contract/list.ts";
import { packTar } from "../fake/fake-tar.ts";
import { call, connectHost, problemOf, type CallOptions } from "./client.ts";
import { startSandbox } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

let sandboxId: string;

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.fileRefusal = undefined;
  await connectHost();
  sandboxId = await startSandbox();
});

const files = (method: string, rest: string, options: CallOptions = {}) =>
  call(method, `/v1/sandboxes/${sandboxId}/files${rest}`, options);
const write = async (path: string, mode = "644") =>
  expect((await files("PUT", `?path=${path}&mode=${mode}`, { body: "content" })).status).toBe(204);
const stat = async (path: string): Promise<FileInfo> => (await files("GET", `/stat?path=${path}`)).json();
const list = async (query: string): Promise<Page<FileInfo>> => (await files("GET", `/list?${query}`)).json();
const pathsOf = ({ data }: Page<FileInfo>) => data.map(({ path }) => path);
const makeDirectory = (json: object, headers = {}) => files("POST", "/directories", { json, headers });
const move = (from: string, to: string) => files("POST", "/move", { json: { from, to } });
const remove = (query: string) => files("DELETE", `?${query}`);
const codeOf = async (response: Response) => {
  const { code, status, errors } = await problemOf(response);
  expect([response.status, status]).toEqual([ERRORS[code].status, ERRORS[code].status]);
  return [code, ...(errors ?? []).map(({ path }) => path)].join(" ");
};

describe("stat", () => {
  it("says what there is", async () => {
    await write("/data/a", "4750");
    const response = await files("GET", "/stat?path=/data/a");
    expect(response.headers.get("content-type")).toMatch(/^application\/json/);
    const info = FileInfoSchema.strict().parse(await response.json());
    expect(info).toMatchObject({ name: "a", path: "/data/a", type: "file", size: 7, mode: "4750" });
    expect(info).toMatchObject({ permissions: "-rwsr-x---", owner: "root", group: "root" });
    expect(await stat("/data")).toMatchObject({ name: "data", type: "directory", permissions: "drwxr-xr-x" });
    expect(await stat("/")).toMatchObject({ name: "/", path: "/" });
  });

  it("says of a link what it is itself, also where it leads nowhere", async () => {
    const link = { type: "symlink", target: "/nowhere", mode: 0o777, modifiedAt: 0 } as const;
    await files("PUT", "/archive?path=/data", { body: packTar([["link", link]]) });
    expect(await stat("/data/link")).toMatchObject({ type: "symlink", symlink_target: "/nowhere" });
  });

  it.each([
    ["/nope", "file_not_found"],
    ["/nope/nope", "file_not_found"],
    ["/etc/os-release/x", "not_a_directory"],
  ])("of %s is %s", async (path, code) => {
    expect(await codeOf(await files("GET", `/stat?path=${path}`))).toBe(code);
    const head = await files("HEAD", `/stat?path=${path}`);
    expect([head.status, await head.text()]).toEqual([ERRORS[code as "not_a_directory"].status, ""]);
  });

  it("answers HEAD without a body", async () => {
    const head = await files("HEAD", "/stat?path=/etc");
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });
});

describe("list", () => {
  it("goes as deep as it is asked to, in the order of the paths", async () => {
    for (const path of ["/d/b", "/d/a/x", "/d/a/deep/y", "/d/a.txt", "/d/é"]) await write(path);
    expect(pathsOf(await list("path=/d"))).toEqual(["/d/a", "/d/a.txt", "/d/b", "/d/é"]);
    expect(pathsOf(await list("path=/d/&depth=2"))).toEqual([
      "/d/a",
      "/d/a.txt",
      "/d/a/deep",
      "/d/a/x",
      "/d/b",
      "/d/é",
    ]);
    const { data, next_cursor } = await list("path=/d&depth=100");
    expect(data.map(({ name }) => name)).toEqual(["a", "a.txt", "deep", "y", "x", "b", "é"]);
    expect(data[3]).toEqual(await stat("/d/a/deep/y"));
    expect(next_cursor).toBeUndefined();
    const head = await files("HEAD", "/list?path=/d");
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });

  it("comes in pages that neither skip nor repeat what stays", async () => {
    const names = ["1", "2", "é 3", "4+&=", "5"].toSorted();
    for (const name of names) await write(`/p/${encodeURIComponent(name)}`);
    const found: string[] = [];
    let query = "path=/p&limit=2";
    for (let pages = 1; ; pages += 1) {
      const page = await list(query);
      found.push(...page.data.map(({ name }) => name));
      if (!page.next_cursor) {
        expect(pages).toBe(3);
        break;
      }
      expect(page.next_cursor).toMatch(/^[\w-]+$/);
      query = `path=/p&limit=2&cursor=${page.next_cursor}`;
      // What a cursor names may go meanwhile.
      await remove(`path=/p/${encodeURIComponent(page.data.at(-1)!.name)}`);
    }
    expect(found).toEqual(names);
  });

  it("has no page behind the last", async () => {
    for (const name of ["1", "2"]) await write(`/two/${name}`);
    expect(await list("path=/two&limit=2")).not.toHaveProperty("next_cursor");
    expect(await list("path=/two&limit=1")).toHaveProperty("next_cursor");
  });

  it.each(["x", "!!", "YWJj", btoa("relative"), btoa("/\0"), "_w"])("refuses the cursor %s", async (cursor) => {
    expect(await codeOf(await files("GET", `/list?path=/&cursor=${cursor}`))).toBe("invalid_request cursor");
  });

  it.each([
    ["/nope", "file_not_found"],
    ["/etc/os-release", "not_a_directory"],
  ])("of %s is %s", async (path, code) => {
    expect(await codeOf(await files("GET", `/list?path=${path}`))).toBe(code);
  });
});

describe("a directory", () => {
  it("is made, and answered as stat does", async () => {
    const response = await makeDirectory({ path: "/made" });
    expect(response.status).toBe(201);
    const info = (await response.json()) as FileInfo;
    expect(info).toMatchObject({ name: "made", path: "/made", type: "directory", mode: "755" });
    expect(info).toEqual(await stat("/made"));
  });

  it("is made with its parents only where they are asked for", async () => {
    expect(await codeOf(await makeDirectory({ path: "/a/b/c" }))).toBe("file_not_found");
    expect(await codeOf(await files("GET", "/stat?path=/a"))).toBe("file_not_found");
    for (const _ of ["made", "there"]) {
      expect((await makeDirectory({ path: "/a/b/c", parents: true })).status).toBe(201);
    }
    expect(await codeOf(await makeDirectory({ path: "/a/b", parents: false }))).toBe("file_exists");
    expect(await codeOf(await makeDirectory({ path: "/etc/os-release", parents: true }))).toBe("file_exists");
    expect(await codeOf(await makeDirectory({ path: "/etc/os-release/x", parents: true }))).toBe("not_a_directory");
  });

  it("is made once by one key, also when the answer was lost", async () => {
    const headers = { "idempotency-key": crypto.randomUUID() };
    const first = await (await makeDirectory({ path: "/once" }, headers)).json();
    const again = await makeDirectory({ path: "/once" }, headers);
    expect([again.status, await again.json()]).toEqual([201, first]);
    const lose = "UPDATE idempotency_keys SET answer = NULL WHERE key = ?";
    await env.DB.prepare(lose).bind(headers["idempotency-key"]).run();
    const late = await makeDirectory({ path: "/once" }, headers);
    expect([late.status, await late.json()]).toEqual([201, first]);
    expect(await codeOf(await makeDirectory({ path: "/other" }, headers))).toBe("idempotency_conflict");
    expect(await codeOf(await makeDirectory({ path: "/once" }))).toBe("file_exists");
  });

  it("gives the key back where it is refused", async () => {
    const headers = { "idempotency-key": crypto.randomUUID() };
    expect(await codeOf(await makeDirectory({ path: "/etc" }, headers))).toBe("file_exists");
    expect((await makeDirectory({ path: "/elsewhere" }, headers)).status).toBe(201);
  });
});

describe("a move", () => {
  it("takes a tree along, and makes the parents of where it goes", async () => {
    await write("/from/in/file");
    expect((await move("/from", "/new/to")).status).toBe(204);
    expect(pathsOf(await list("path=/new&depth=9"))).toEqual(["/new/to", "/new/to/in", "/new/to/in/file"]);
    expect(await codeOf(await files("GET", "/stat?path=/from"))).toBe("file_not_found");
  });

  it("refuses what it cannot do, and changes nothing", async () => {
    for (const path of ["/m/full/x", "/m/dir/x", "/m/file"]) await write(path);
    const before = await list("path=/m&depth=9");
    expect(await codeOf(await move("/m/nope", "/m/new"))).toBe("file_not_found");
    expect(await codeOf(await move("/m/file", "/m/dir"))).toBe("is_a_directory");
    expect(await codeOf(await move("/m/dir", "/m/file"))).toBe("not_a_directory");
    expect(await codeOf(await move("/m/dir", "/m/full"))).toBe("directory_not_empty");
    expect(await codeOf(await move("/m/dir", "/m/file/x"))).toBe("not_a_directory");
    for (const to of ["/m/dir/x", "/m/dir/new/x", "/m//dir/./x", "/m/dir/x/"])
      expect(await codeOf(await move("/m/dir", to)), to).toBe("invalid_request to");
    expect(await codeOf(await move("/", "/m/x"))).toBe("invalid_request to");
    expect(await list("path=/m&depth=9")).toEqual(before);
    // What only begins as the path does, or leads out again, lies elsewhere.
    expect((await move("/m/dir", "/m/dir2")).status).toBe(204);
    expect((await move("/m/dir2", "/m/dir2/../dir")).status).toBe(204);
    expect(await list("path=/m&depth=9")).toEqual(before);
  });
});

describe("a removal", () => {
  it("takes a file, and what a directory holds only if it is to", async () => {
    for (const path of ["/r/file", "/r/full/x"]) await write(path);
    expect((await remove("path=/r/file")).status).toBe(204);
    expect(await codeOf(await remove("path=/r/file"))).toBe("file_not_found");
    for (const query of ["path=/r/full", "path=/r/full&recursive=false"])
      expect(await codeOf(await remove(query))).toBe("directory_not_empty");
    expect(pathsOf(await list("path=/r/full"))).toEqual(["/r/full/x"]);
    expect((await remove("path=/r/full&recursive=true")).status).toBe(204);
    expect(await list("path=/r")).toEqual({ data: [] });
    expect((await remove("path=/r")).status).toBe(204);
    expect(await codeOf(await remove("path=/etc/os-release/x"))).toBe("not_a_directory");
  });

  it.each(["/", "//", "/.", "/..", "/./../"])("never takes %s", async (path) => {
    expect(await codeOf(await remove(`path=${path}&recursive=true`))).toBe("invalid_request path");
    expect(await stat("/etc")).toMatchObject({ type: "directory" });
  });
});

const ALL: [string, string, CallOptions?][] = [
  ["GET", "?path=/etc/os-release"],
  ["PUT", "?path=/x", { body: "x" }],
  ["GET", "/stat?path=/etc"],
  ["GET", "/list?path=/etc"],
  ["POST", "/directories", { json: { path: "/x" } }],
  ["POST", "/move", { json: { from: "/x", to: "/y" } }],
  ["DELETE", "?path=/x"],
  ["GET", "/watch?path=/etc"],
  ["GET", "/archive?path=/etc"],
  ["PUT", "/archive?path=/x", { body: new Uint8Array(1024) }],
];

describe.each(ALL)("%s …/files%s", (method, rest, options) => {
  it("tells what is the matter as the sandbox does", async () => {
    for (const code of FILE_CODES) {
      fakeHost.fileRefusal = code;
      expect(await codeOf(await files(method, rest, options))).toBe(code);
    }
  });

  it("tells that the host is away, and when to ask again", async () => {
    fakeHost.isDown = true;
    const response = await files(method, rest, options);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await codeOf(response)).toBe("backend_unavailable");
  });
});
