import { execFileSync } from "node:child_process";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  mkdirSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { FileInfo } from "../../src/contract/file.ts";
import { eventsOf, type StreamEvent } from "./event-stream.ts";
import { Instance, sleep } from "./instance.ts";
import { RUNTIMES } from "./runtimes.ts";

describe.each(RUNTIMES)("files on the %s runtime", { timeout: 120_000 }, (runtime) => {
  let instance: Instance;
  let id: string;
  const folder = mkdtempSync(join(tmpdir(), "sandbar-files-"));
  beforeAll(async () => {
    instance = await Instance.start(runtime);
    id = await instance.create({ timeout: 600 });
  }, 300_000);
  afterAll(async () => {
    rmSync(folder, { recursive: true });
    await instance?.remove();
  });

  const ask = (method: string, path: string, body?: object) =>
    instance.fetch(`/sandboxes/${id}/files${path}`, { method, ...(body && { body: JSON.stringify(body) }) });
  const codeOf = async (answer: Promise<Response>) => {
    const response = await answer;
    const text = await response.text();
    return [response.status, text === "" ? undefined : (JSON.parse(text) as { code?: string }).code];
  };
  const info = async (path: string) => (await (await ask("GET", `/stat?path=${path}`)).json()) as FileInfo;
  const list = async (query: string) =>
    (await (await ask("GET", `/list?${query}`)).json()) as { data: FileInfo[]; next_cursor?: string };
  const sh = async (script: string) => (await instance.exec(id, ["sh", "-c", script])).stdout.trim();

  it("are told of as stat tells of them inside", async () => {
    await sh(
      "mkdir -p /srv/look && cd /srv/look && echo hello > a && chmod 4750 a && ln -s a link && touch -d @1700000000 a",
    );
    const [mode, size, owner, group, permissions] = (await sh("stat -c '%a %s %U %G %A' /srv/look/a")).split(" ");
    const found = await info("/srv/look/a");
    expect(found).toMatchObject({ name: "a", path: "/srv/look/a", type: "file", mode, owner, group, permissions });
    expect([String(found.size), Date.parse(found.modified_at)]).toEqual([size, 1_700_000_000_000]);
    expect(await info("/srv/look/link")).toMatchObject({ type: "symlink", symlink_target: "a" });
    expect(await info("/srv/look")).toMatchObject({ type: "directory", name: "look" });
    expect(await codeOf(ask("GET", "/stat?path=/srv/none"))).toEqual([404, "file_not_found"]);
    expect(await codeOf(ask("GET", "/stat?path=/srv/look/a/b"))).toEqual([409, "not_a_directory"]);
  });

  it("are listed in pages, as deep as is asked", async () => {
    await sh(
      "mkdir -p /srv/tree/d/e && cd /srv/tree && for i in 1 2 3 4 5 6 7; do echo > f$i; done; echo > d/x; echo > d/e/y",
    );
    const names = ({ data }: { data: FileInfo[] }) => data.map(({ path }) => path.slice("/srv/tree/".length));
    expect(names(await list("path=/srv/tree"))).toEqual(["d", "f1", "f2", "f3", "f4", "f5", "f6", "f7"]);
    const paged: string[] = [];
    let cursor = "";
    do {
      const page = await list(`path=/srv/tree&depth=3&limit=4${cursor}`);
      paged.push(...names(page));
      cursor = page.next_cursor === undefined ? "" : `&cursor=${encodeURIComponent(page.next_cursor)}`;
    } while (cursor);
    expect(paged).toEqual(["d", "d/e", "d/e/y", "d/x", "f1", "f2", "f3", "f4", "f5", "f6", "f7"]);
    expect(await codeOf(ask("GET", "/list?path=/srv/tree/f1"))).toEqual([409, "not_a_directory"]);
  });

  it("are made, moved and removed", async () => {
    const made = await ask("POST", "/directories", { path: "/srv/new/deep", parents: true });
    expect([made.status, await made.json()]).toEqual([201, expect.objectContaining({ type: "directory" })]);
    expect(await codeOf(ask("POST", "/directories", { path: "/srv/new/deep" }))).toEqual([409, "file_exists"]);
    expect(await codeOf(ask("POST", "/directories", { path: "/srv/no/deep" }))).toEqual([404, "file_not_found"]);
    await sh("echo content > /srv/new/deep/file");
    expect((await ask("POST", "/move", { from: "/srv/new/deep", to: "/srv/elsewhere/there" })).status).toBe(204);
    expect(await sh("cat /srv/elsewhere/there/file; ls /srv/new")).toBe("content");
    expect(await codeOf(ask("DELETE", "?path=/srv/elsewhere"))).toEqual([409, "directory_not_empty"]);
    expect((await ask("DELETE", "?path=/srv/elsewhere&recursive=true")).status).toBe(204);
    expect(await codeOf(ask("DELETE", "?path=/srv/elsewhere"))).toEqual([404, "file_not_found"]);
  });

  it("are watched: made, changed, renamed and removed, however deep", async () => {
    await sh("mkdir -p /srv/watched/old");
    const events: StreamEvent[] = [];
    const leave = new AbortController();
    const path = `/sandboxes/${id}/files/watch?path=/srv/watched&recursive=true`;
    const response = await instance.fetch(path, { signal: leave.signal });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const reading = (async () => {
      for await (const event of eventsOf(response)) events.push(event);
    })().catch(() => undefined);
    const seen = (event: string, data: object) =>
      expect.poll(() => events, { timeout: 10_000 }).toContainEqual(expect.objectContaining({ event, data }));
    await seen("ready", { path: "/srv/watched" });
    await sh("echo 1 > /srv/watched/a");
    await seen("create", { path: "/srv/watched/a" });
    await sh("mkdir /srv/watched/d && echo 1 > /srv/watched/d/b");
    await seen("create", { path: "/srv/watched/d/b" });
    await sh("echo 2 >> /srv/watched/d/b");
    await seen("modify", { path: "/srv/watched/d/b" });
    await sh("mv /srv/watched/d/b /srv/watched/old/c");
    await seen("rename", { path: "/srv/watched/old/c", from: "/srv/watched/d/b" });
    await sh("rm /srv/watched/a");
    await seen("remove", { path: "/srv/watched/a" });
    leave.abort();
    await reading;
    expect(await sh("echo still here")).toBe("still here");
  });

  it("come and go as a tar, with all that one holds", async () => {
    const source = join(folder, "source");
    mkdirSync(join(source, "empty"), { recursive: true });
    writeFileSync(join(source, "a name\nof two lines"), "content", { mode: 0o640 });
    symlinkSync("a name\nof two lines", join(source, "link"));
    for (let index = 0; index < 500; index++) writeFileSync(join(source, `f${index}`), `content ${index}`);
    const tar = execFileSync("tar", ["-C", source, "-c", "."], { maxBuffer: 1 << 28 });
    const put = (body: string | Uint8Array<ArrayBuffer>) =>
      instance.fetch(`/sandboxes/${id}/files/archive?path=/srv/packed`, { method: "PUT", body });
    expect(await codeOf(put("this is no tar"))).toEqual([400, "invalid_request"]);
    expect(await codeOf(put(new Uint8Array(tar.subarray(0, 40_000))))).toEqual([400, "invalid_request"]);
    expect(await codeOf(ask("GET", "/stat?path=/srv/packed"))).toEqual([404, "file_not_found"]);
    expect((await put(new Uint8Array(tar))).status).toBe(204);
    expect(await sh("cat /srv/packed/link; ls /srv/packed | wc -l")).toBe("content504");
    const back = join(folder, "back");
    mkdirSync(back);
    const answer = await ask("GET", "/archive?path=/srv/packed");
    execFileSync("tar", ["-C", back, "-x"], { input: Buffer.from(await answer.arrayBuffer()) });
    expect(readdirSync(back).toSorted()).toEqual(readdirSync(source).toSorted());
    expect(readFileSync(join(back, "link"), "utf8")).toBe("content");
    expect(statSync(join(back, "a name\nof two lines")).mode & 0o777).toBe(0o640);
  });

  it("are no longer to be had once the sandbox has ended, and a watch ends with it", async () => {
    const other = await instance.create({ timeout: 600 });
    const watch = await instance.fetch(`/sandboxes/${other}/files/watch?path=/srv`);
    const events = eventsOf(watch);
    expect((await events.next()).value).toMatchObject({ event: "ready" });
    await instance.call("DELETE", `/sandboxes/${other}`);
    const ended = (async () => {
      for await (const _ of events);
    })().catch(() => undefined);
    await Promise.race([ended, sleep(20_000).then(() => Promise.reject(new Error("the watch goes on")))]);
    for (const path of ["/stat?path=/", "/list?path=/", "/archive?path=/srv", "/watch?path=/srv"]) {
      const answer = instance.fetch(`/sandboxes/${other}/files${path}`);
      expect(await codeOf(answer)).toEqual([409, "sandbox_ended"]);
    }
  });
});
