import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ChildRuntime } from "./child-runtime.ts";
import { SignedHost, until } from "./signed-host.ts";

const runtime = new ChildRuntime();
let host: SignedHost;
let box: string;

beforeAll(async () => {
  host = await SignedHost.start(runtime);
  box = await host.sandbox();
});
afterAll(() => host.daemon.close({ stopContainers: true }));

describe.each(["the image's shell", "the launcher's busybox"])("files, by %s", (shell) => {
  const dir = mkdtempSync("/tmp/sandbar-files-");
  beforeAll(async () => {
    box = await host.sandbox();
    runtime.started.at(-1)!.hasShell = shell.startsWith("the image");
  });
  const at = (path: string, query = "") => `${box}/files?${new URLSearchParams({ path })}${query}`;
  const put = (path: string, body: string | Buffer, query = "") => host.call("PUT", at(path, query), { body });
  const get = (path: string, range?: string) =>
    host.call("GET", at(path), range === undefined ? {} : { headers: { range } });
  const leftovers = () => readdirSync(dir, { recursive: true }).filter((name) => String(name).includes(".sandbar-"));
  afterAll(() => {
    expect(leftovers()).toEqual([]);
    rmSync(dir, { recursive: true });
  });

  test("come back as they went, under any name", async () => {
    const content = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));
    for (const name of [
      "plain",
      "a/b/c",
      "with space",
      "it's",
      'quo"te',
      "-dash",
      "new\nline",
      "ends\n",
      "$(id)",
      "ü",
      "x/../y",
    ]) {
      const path = `${dir}/${name}`;
      expect((await put(path, content)).status, name).toBe(204);
      const answer = await get(path);
      expect(answer.status, name).toBe(200);
      expect(answer.body.equals(content), name).toBe(true);
      expect(answer.headers).toMatchObject({ "x-sandbar-size": "300000", "content-length": "300000" });
    }
    expect(existsSync(`${dir}/ends\n`)).toBe(true);
  });
  test("may be empty", async () => {
    expect((await put(`${dir}/empty`, "")).status).toBe(204);
    const answer = await get(`${dir}/empty`);
    expect([answer.status, answer.body.length, answer.headers["x-sandbar-size"]]).toEqual([200, 0, "0"]);
    expect((await get(`${dir}/empty`, "bytes=0-1")).status).toBe(416);
  });
  test("are read in ranges", async () => {
    const content = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 241));
    await put(`${dir}/ranges`, content);
    for (const [range, first, last] of [
      ["bytes=0-0", 0, 0],
      ["bytes=10-19", 10, 19],
      ["bytes=65530-131080", 65_530, 131_080],
      ["bytes=131072-", 131_072, 199_999],
      ["bytes=199990-999999", 199_990, 199_999],
      ["bytes=-5", 199_995, 199_999],
      ["bytes=-150000", 50_000, 199_999],
      ["bytes=-999999", 0, 199_999],
    ] as const) {
      const answer = await get(`${dir}/ranges`, range);
      expect(answer.status, range).toBe(206);
      expect(answer.headers["content-range"], range).toBe(`bytes ${first}-${last}/200000`);
      expect(answer.headers["x-sandbar-size"]).toBe("200000");
      expect(answer.body.equals(content.subarray(first, last + 1)), range).toBe(true);
    }
    const beyond = await get(`${dir}/ranges`, "bytes=200000-");
    expect([beyond.status, beyond.json.code]).toEqual([416, "range_not_satisfiable"]);
    expect((await get(`${dir}/ranges`, "bytes=5-1")).status).toBe(200);
  });
  test("that cannot be read say why", async () => {
    await put(`${dir}/file`, "x");
    execFileSync("mkfifo", [`${dir}/fifo`]);
    symlinkSync(`${dir}/nowhere`, `${dir}/dangling`);
    const code = async (path: string) => (await get(path)).json.code;
    expect(await code(`${dir}/none`)).toBe("file_not_found");
    expect(await code(`${dir}/none/none`)).toBe("file_not_found");
    expect(await code(`${dir}/dangling`)).toBe("file_not_found");
    expect(await code(dir)).toBe("is_a_directory");
    expect(await code("/")).toBe("is_a_directory");
    expect(await code(`${dir}/`)).toBe("is_a_directory");
    expect(await code(`${dir}/file/x`)).toBe("not_a_directory");
    expect(await code(`${dir}/file/`)).toBe("not_a_directory");
    expect(await code(`${dir}/fifo`)).toBe("not_a_file");
    expect(await code("/dev/zero")).toBe("not_a_file");
    expect(await code("relative")).toBe("invalid_request");
  });
  test("of /proc and /sys are read though they lie about their size", async () => {
    const version = await get("/proc/version");
    expect(version.body.toString()).toBe(readFileSync("/proc/version", "utf8"));
    expect(version.headers["x-sandbar-size"]).toBeUndefined();
    expect((await get("/sys/kernel/mm/transparent_hugepage/enabled")).status).toBe(200);
  });
  test("keep their mode, or take the one that is given", async () => {
    const mode = (name: string) => (statSync(`${dir}/${name}`).mode & 0o7777).toString(8);
    await put(`${dir}/mode`, "1");
    expect(mode("mode")).toBe("644");
    await put(`${dir}/mode`, "2", "&mode=0755");
    expect(mode("mode")).toBe("755");
    await put(`${dir}/mode`, "3");
    expect([mode("mode"), readFileSync(`${dir}/mode`, "utf8")]).toEqual(["755", "3"]);
    expect((await put(`${dir}/mode`, "4", "&mode=999")).json.code).toBe("invalid_request");
  });
  test("are written through links, into devices, not into what is none", async () => {
    await put(`${dir}/target`, "old");
    symlinkSync("target", `${dir}/link`);
    symlinkSync("fresh", `${dir}/link-to-fresh`);
    expect((await put(`${dir}/link`, "new")).status).toBe(204);
    expect((await put(`${dir}/link-to-fresh`, "new")).status).toBe(204);
    expect([readFileSync(`${dir}/target`, "utf8"), readFileSync(`${dir}/fresh`, "utf8")]).toEqual(["new", "new"]);
    expect(lstatSync(`${dir}/link`).isSymbolicLink()).toBe(true);
    expect((await put("/dev/null", "gone")).status).toBe(204);
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
    const code = async (path: string) => (await put(path, "x")).json?.code;
    expect(await code(dir)).toBe("is_a_directory");
    expect(await code(`${dir}/new/`)).toBe("is_a_directory");
    expect(await code(`${dir}/file/x`)).toBe("not_a_directory");
    expect(await code(`${dir}/fifo`)).toBe("not_a_file");
    expect((await put("/dev/full", "x".repeat(100_000))).json.code).toBe("disk_full");
  });
  test("stay as they were when the body breaks off, or has another size", async () => {
    await put(`${dir}/old`, "old");
    async function* broken() {
      yield Buffer.alloc(100_000);
      await new Promise((wake) => setTimeout(wake, 100));
      throw new Error("cut");
    }
    await expect(host.call("PUT", at(`${dir}/old`), { body: broken() })).rejects.toThrow();
    await until(() => leftovers().length === 0);
    expect((await put(`${dir}/old`, "newer", "&size=4")).json.code).toBe("invalid_request");
    expect(readFileSync(`${dir}/old`, "utf8")).toBe("old");
    expect((await put(`${dir}/old`, "newer", "&size=5")).status).toBe(204);
  });
  test("of any size pass in flat memory", async () => {
    const size = 512 * 1024 * 1024;
    const chunk = Buffer.alloc(1024 * 1024, 1);
    async function* big() {
      for (let sent = 0; sent < size; sent += chunk.length) yield chunk;
    }
    const before = process.memoryUsage().rss;
    expect((await host.call("PUT", at(`${dir}/big`, `&size=${size}`), { body: big() })).status).toBe(204);
    let received = 0;
    for await (const part of await host.open("GET", at(`${dir}/big`))) received += (part as Buffer).length;
    expect(received).toBe(size);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
    // A reader that leaves leaves nothing running.
    (await host.open("GET", at(`${dir}/big`))).destroy();
    await until(async () => !(await host.call("GET", box)).json.busy);
  });
});
