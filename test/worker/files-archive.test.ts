import { beforeEach, describe, expect, it } from "vitest";
import type { FileInfo } from "../../src/contract/file.ts";
import { packTar, unpackTar } from "../fake/fake-tar.ts";
import type { FakeNode } from "../fake/fake-files.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { startSandbox } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

let sandboxId: string;

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.breaksArchives = false;
  await connectHost();
  sandboxId = await startSandbox();
});

const files = (method: string, rest: string, options = {}) =>
  call(method, `/v1/sandboxes/${sandboxId}/files${rest}`, options);
const namesIn = async (path: string) => {
  const response = await files("GET", `/list?path=${path}&depth=9`);
  return ((await response.json()) as { data: FileInfo[] }).data.map((info) => info.path.slice(path.length + 1));
};
const file = (content: string | Uint8Array, mode = 0o644): FakeNode => ({
  type: "file",
  bytes: typeof content === "string" ? new TextEncoder().encode(content) : content,
  mode,
  modifiedAt: 981_173_106_000,
});
const directory: FakeNode = { type: "directory", mode: 0o750, modifiedAt: 981_173_106_000 };
const TREE: [string, FakeNode][] = [
  ["in", directory],
  ["in/long", file(crypto.getRandomValues(new Uint8Array(60_000)))],
  ["run", file("#!/bin/sh\n", 0o755)],
  ["to", { type: "symlink", target: "in/long", mode: 0o777, modifiedAt: 0 }],
];
const tar = packTar(TREE);
/** The bytes in pieces, and then their end, or an error. */
const inPieces = (bytes: Uint8Array, error?: Error) =>
  new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += 10_000) controller.enqueue(bytes.slice(at, at + 10_000));
      if (error) controller.error(error);
      else controller.close();
    },
  });

describe("an archive", () => {
  it("goes in and comes out as it was", async () => {
    expect((await files("PUT", "/archive?path=/new/dir", { body: tar })).status).toBe(204);
    expect(await namesIn("/new/dir")).toEqual(TREE.map(([name]) => name));
    const response = await files("GET", "/archive?path=/new/dir");
    expect(response.status).toBe(200);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "content-type": "application/x-tar",
      "x-content-type-options": "nosniff",
      "content-security-policy": "sandbox",
      "cache-control": "no-store",
    });
    expect(unpackTar(new Uint8Array(await response.arrayBuffer()))).toEqual(TREE);
    const head = await files("HEAD", "/archive?path=/new/dir");
    expect([head.status, head.headers.get("content-type"), await head.text()]).toEqual([200, "application/x-tar", ""]);
  });

  it.each(["application/x-tar", "application/octet-stream", undefined])(
    "comes in pieces of no known length, as %s",
    async (type) => {
      const options = { body: inPieces(tar), headers: type === undefined ? {} : { "content-type": type } };
      expect((await files("PUT", "/archive?path=/pieces", options)).status).toBe(204);
      expect(await namesIn("/pieces")).toEqual(TREE.map(([name]) => name));
    },
  );

  it("leaves what else is there", async () => {
    await files("PUT", "?path=/kept/other", { body: "x" });
    await files("PUT", "/archive?path=/kept", { body: packTar([["new", file("x")]]) });
    expect(await namesIn("/kept")).toEqual(["new", "other"]);
  });

  it("of a file is that file", async () => {
    const response = await files("GET", "/archive?path=/etc/os-release");
    expect(unpackTar(new Uint8Array(await response.arrayBuffer()))).toMatchObject([["os-release", { type: "file" }]]);
  });

  it("that breaks off on its way out breaks the answer", async () => {
    await files("PUT", "/archive?path=/d", { body: tar });
    fakeHost.breaksArchives = true;
    const response = await files("GET", "/archive?path=/d");
    expect(response.status).toBe(200);
    await expect(response.arrayBuffer()).rejects.toThrow();
  });

  it("that breaks off on its way in changes nothing", async () => {
    await files("PUT", "?path=/d/run", { body: "as it was" });
    const cut = inPieces(tar.slice(0, 40_000), new Error("The client has gone."));
    const answer = await files("PUT", "/archive?path=/d", { body: cut }).catch(() => undefined);
    if (answer) expect(answer.status).toBeGreaterThanOrEqual(400);
    const headers = { "content-length": String(tar.length) };
    const short = await files("PUT", "/archive?path=/d", { body: inPieces(tar.slice(0, -1)), headers });
    expect(await problemOf(short)).toMatchObject({ status: 400, code: "invalid_request" });
    expect(await namesIn("/d")).toEqual(["run"]);
    expect(await (await files("GET", "?path=/d/run")).text()).toBe("as it was");
  });

  it.each<[string, Uint8Array<ArrayBuffer> | undefined]>([
    ["empty", undefined],
    ["no tar", Uint8Array.from("x".repeat(2000), () => 120)],
    ["shorter than its files", tar.slice(0, 40_000)],
    ["without an end", tar.slice(0, tar.length - 1024)],
    ["damaged", tar.map((byte, at) => (at === 513 + 60_416 + 512 ? byte + 1 : byte))],
  ])("that is %s changes nothing", async (_, body) => {
    const options = body === undefined ? {} : { body };
    const response = await files("PUT", "/archive?path=/none", options);
    expect(await problemOf(response)).toMatchObject({ status: 400, code: "invalid_request" });
    expect((await files("GET", "/stat?path=/none")).status).toBe(404);
  });

  it.each([
    ["GET", "/nope", "file_not_found"],
    ["GET", "/etc/os-release/x", "not_a_directory"],
    ["PUT", "/etc/os-release", "not_a_directory"],
    ["PUT", "/etc/os-release/x", "not_a_directory"],
  ])("%s of %s is %s", async (method, path, code) => {
    const options = method === "PUT" ? { body: tar } : {};
    expect(await problemOf(await files(method, `/archive?path=${path}`, options))).toMatchObject({ code });
  });
});
