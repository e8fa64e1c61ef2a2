import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ByteRange } from "../../src/contract/byte-range.ts";
import type { WriteOptions } from "../../src/backends/backend.ts";
import { AgentConnection } from "../../src/backends/cloudflare/agent/connection.ts";
import { readFile, writeFile } from "../../src/backends/cloudflare/agent/files.ts";
import { frame, list } from "../../src/backends/cloudflare/agent/frames.ts";
import { FILE_CODES } from "../../src/contract/errors.ts";
import { codeOf } from "../backends/under-test.ts";
import { mountSmall } from "./as-root.ts";
import { Agent, isRoot, noPerl } from "./cloudflare-agent.ts";
import { MIB } from "./embedded-host.ts";
import { listening, until } from "./signed-host.ts";

const bodyOf = (content: string | Uint8Array<ArrayBuffer>) => new Response(content).body!;
const NOBODY = 65_534;

const dir = mkdtempSync("/tmp/sandbar-agent-files-");
/** Why no filesystem can be mounted here. */
const noMounts = mountSmall(`${dir}/full`);
if (noMounts) console.log(`Cloudflare's agent on a full disk: skipped, ${noMounts}`);

describe.skipIf(noPerl !== undefined)("files, by Cloudflare's agent", { timeout: 20_000 }, () => {
  let agent: Agent;
  beforeAll(async () => {
    agent = await Agent.start();
  });
  /** What writes have left behind. */
  const leftovers = (where = dir) =>
    readdirSync(where, { recursive: true }).filter((name) => String(name).includes(".sandbar-"));
  afterAll(async () => {
    try {
      await until(() => leftovers().length === 0);
      // Every operation is a process, and none is left.
      await until(() => agent.children().length === 0);
    } finally {
      await agent?.end();
      if (!noMounts) execFileSync("umount", [`${dir}/full`]);
      rmSync(dir, { recursive: true });
    }
  });

  const write = (path: string, content: string | Uint8Array<ArrayBuffer>, options: WriteOptions = {}, by = agent) =>
    writeFile(by, path, bodyOf(content), options);
  const read = async (path: string, range?: ByteRange, by = agent) => {
    const file = await readFile(by, path, range, () => {});
    return { ...file, body: Buffer.from(await new Response(file.body).arrayBuffer()) };
  };
  const text = async (path: string) => String((await read(path)).body);

  it("come back as they went, under any name", async () => {
    const content = Uint8Array.from({ length: 300_000 }, (_, index) => index % 251);
    for (const name of [
      "plain",
      "a/b/c",
      "with space",
      "it's",
      'quo"te',
      "-dash",
      "new\nline",
      "new\nfolder/x",
      "ends\n",
      "\n",
      "folder\n/\n",
      "$(id)",
      "ü",
      "x/../y",
      "|cat",
      "<x",
      " ",
    ]) {
      const path = `${dir}/names/${name}`;
      await write(path, content, { size: content.length });
      expect(await read(path), name).toEqual({ body: Buffer.from(content), size: content.length, range: undefined });
      expect(existsSync(path), name).toBe(true);
    }
  });

  it("may be empty, or large", async () => {
    await write(`${dir}/empty`, "much longer");
    await write(`${dir}/empty`, "", { size: 0 });
    expect(await read(`${dir}/empty`)).toMatchObject({ size: 0, body: Buffer.alloc(0) });
    expect(await codeOf(read(`${dir}/empty`, { first: 0, last: 1 }))).toBe("range_not_satisfiable");
    expect(await codeOf(read(`${dir}/empty`, { suffix: 5 }))).toBe("range_not_satisfiable");
    const large = new Uint8Array(24 * MIB).map((_, index) => (index * 7) % 253);
    await write(`${dir}/large`, large);
    expect((await read(`${dir}/large`)).body.equals(large)).toBe(true);
    expect(readFileSync(`${dir}/large`).equals(large)).toBe(true);
  });

  it.each([1_000, 65_536, 65_537, 200_000])("of %i bytes are read in ranges", async (size) => {
    const content = Uint8Array.from({ length: size }, (_, index) => index % 241);
    await write(`${dir}/ranges`, content);
    for (const [range, first, last] of [
      [{ first: 0, last: 0 }, 0, 0],
      [{ first: 10, last: 19 }, 10, 19],
      [{ first: 500 }, 500, size - 1],
      [{ first: size - 10, last: size + 99 }, size - 10, size - 1],
      [{ first: 1, last: size - 2 }, 1, size - 2],
      [{ suffix: 5 }, size - 5, size - 1],
      [{ suffix: size * 2 }, 0, size - 1],
    ] as const) {
      const body = Buffer.from(content.subarray(first, last + 1));
      expect(await read(`${dir}/ranges`, range)).toEqual({ size, range: { first, last }, body });
    }
    const beyond = readFile(agent, `${dir}/ranges`, { first: size }, () => {});
    await expect(beyond).rejects.toMatchObject({ code: "range_not_satisfiable", extra: { size } });
    expect(await codeOf(read(`${dir}/ranges`, { suffix: 0 }))).toBe("range_not_satisfiable");
  });

  it("that cannot be read or written say why, and none is waited for", async () => {
    writeFileSync(`${dir}/file`, "x");
    execFileSync("mkfifo", [`${dir}/fifo`]);
    symlinkSync(`${dir}/nowhere`, `${dir}/dangling`);
    symlinkSync("loop", `${dir}/loop`);
    const begin = performance.now();
    const readCode = (path: string) => codeOf(read(path));
    expect(await readCode(`${dir}/none`)).toBe("file_not_found");
    expect(await readCode(`${dir}/none/none`)).toBe("file_not_found");
    expect(await readCode(`${dir}/dangling`)).toBe("file_not_found");
    expect(await readCode(`${dir}/loop`)).toBe("file_not_found");
    expect(await readCode("/")).toBe("is_a_directory");
    expect(await readCode(`${dir}/`)).toBe("is_a_directory");
    expect(await readCode(`${dir}/file/x`)).toBe("not_a_directory");
    expect(await readCode(`${dir}/file/`)).toBe("not_a_directory");
    for (const path of [`${dir}/fifo`, "/dev/zero", "/dev/tty"]) expect(await readCode(path), path).toBe("not_a_file");
    const writeCode = (path: string) => codeOf(write(path, "x"));
    expect(await writeCode(dir)).toBe("is_a_directory");
    expect(await writeCode("/")).toBe("is_a_directory");
    for (const end of ["", ".", ".."]) expect(await writeCode(`${dir}/new/${end}`)).toBe("is_a_directory");
    expect(existsSync(`${dir}/new`)).toBe(false);
    expect(await writeCode(`${dir}/file/x`)).toBe("not_a_directory");
    expect(await writeCode(`${dir}/file/x/y/z`)).toBe("not_a_directory");
    expect(await writeCode(`${dir}/dangling/x`)).toBe("not_a_directory");
    expect(await writeCode(`${dir}/fifo`)).toBe("not_a_file");
    expect(await writeCode(`${dir}/loop`)).toBe("file_not_found");
    expect(await codeOf(write("/dev/full", "x".repeat(100_000)))).toBe("disk_full");
    expect(await writeCode("/proc/version")).toBe("permission_denied");
    expect(performance.now() - begin).toBeLessThan(3_000);
    expect(await text(`${dir}/file`)).toBe("x");
  });

  it("of /proc and /sys are read though they lie about their size", async () => {
    const version = readFileSync("/proc/version");
    expect(await read("/proc/version")).toEqual({ body: version, size: undefined, range: undefined });
    expect(await read("/proc/version", { first: 3, last: 5 })).toEqual({
      body: version,
      size: undefined,
      range: undefined,
    });
    const symbols = readFileSync("/proc/kallsyms").length;
    expect((await read("/proc/kallsyms")).body.length).toBe(symbols);
    const path = "/sys/kernel/mm/transparent_hugepage/enabled";
    const body = readFileSync(path);
    expect(await read(path)).toEqual({ body, size: body.length, range: undefined });
    expect(String((await read(path, { suffix: 6 })).body)).toBe(String(body.subarray(-6)));
  });

  it("keep their mode and their owner, or take the mode that is given", async () => {
    const path = `${dir}/mode`;
    const mode = () => (statSync(path).mode & 0o7777).toString(8);
    await write(path, "1");
    expect(mode()).toBe("644");
    await write(path, "2", { mode: "0755" });
    expect(mode()).toBe("755");
    await write(path, "3");
    expect([mode(), await text(path)]).toEqual(["755", "3"]);
    await write(path, "4", { mode: "600" });
    expect(mode()).toBe("600");
    if (!isRoot) return;
    chownSync(path, 1234, 5678);
    chmodSync(path, 0o4750);
    await write(path, "5");
    expect([statSync(path).uid, statSync(path).gid, mode()]).toEqual([1234, 5678, "4750"]);
  });

  it("are written through links, and into devices", async () => {
    mkdirSync(`${dir}/links`);
    writeFileSync(`${dir}/links/target`, "old");
    for (const [to, link] of [
      ["target", "relative"],
      ["fresh", "to-fresh"],
      [`${dir}/links/target`, "absolute"],
      ["relative", "to-link"],
    ]) {
      symlinkSync(to!, `${dir}/links/${link}`);
      await write(`${dir}/links/${link}`, `by ${link}`);
      expect(lstatSync(`${dir}/links/${link}`).isSymbolicLink()).toBe(true);
      expect(readFileSync(`${dir}/links/${link === "to-fresh" ? "fresh" : "target"}`, "utf8")).toBe(`by ${link}`);
    }
    symlinkSync(`${dir}/links`, `${dir}/linked-folder`);
    await write(`${dir}/linked-folder/inside`, "in");
    expect(readFileSync(`${dir}/links/inside`, "utf8")).toBe("in");
    await write("/dev/null", "gone");
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
  });

  it("stay as they were when the body has another size or breaks off", async () => {
    const path = `${dir}/kept`;
    await write(path, "old");
    expect(await codeOf(write(path, "newer", { size: 4 }))).toBe("invalid_request");
    expect(await codeOf(write(path, "newer", { size: 6 }))).toBe("invalid_request");
    const broken = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array(100_000)),
      pull: (controller) => controller.error(new Error("cut")),
    });
    await expect(writeFile(agent, path, broken, {})).rejects.toThrow("cut");
    await until(() => leftovers().length === 0);
    expect(await text(path)).toBe("old");
  });

  /** A write that has come so far: the agent holds a part of the new content. */
  async function begin(path: string, content = "the new one") {
    const connection = await AgentConnection.open(agent, "W", list(path, ""));
    await connection.answer("k");
    await connection.send(frame("d", new TextEncoder().encode(content)));
    const { socket } = agent;
    return {
      cut: () => socket.resetAndDestroy(),
      close: () => connection.close(),
      finish: async () => {
        await connection.send(frame("z"));
        await connection.answer("z", FILE_CODES).finally(() => connection.close());
      },
    };
  }

  it.each(["cut", "close"] as const)("stay as they were when the connection goes away: %s", async (how) => {
    const folder = `${dir}/cut-${how}`;
    await write(`${folder}/file`, "old");
    const writing = await begin(`${folder}/file`);
    await until(() => leftovers(folder).length === 1);
    expect(await text(`${folder}/file`)).toBe("old");
    writing[how]();
    await until(() => leftovers(folder).length === 0);
    expect(readdirSync(folder)).toEqual(["file"]);
    expect(await text(`${folder}/file`)).toBe("old");
  });

  it("leave nothing behind when the client goes before it is answered", async () => {
    mkdirSync(`${dir}/gone`);
    for (let time = 0; time < 30; time++) {
      await AgentConnection.open(agent, "W", list(`${dir}/gone/file`, ""));
      agent.socket.resetAndDestroy();
    }
    await sleep(300);
    await until(() => agent.children().length === 0);
    expect(readdirSync(`${dir}/gone`)).toEqual([]);
  });

  it("end up in the folder that they were begun in, whatever its path leads to meanwhile", async () => {
    const [first, moved, other] = [`${dir}/swap/a`, `${dir}/swap/moved`, `${dir}/swap/other`];
    mkdirSync(first, { recursive: true });
    mkdirSync(other);
    writeFileSync(`${other}/file`, "not this one");
    const writing = await begin(`${first}/file`);
    renameSync(first, moved);
    symlinkSync(other, first);
    await writing.finish();
    expect([readdirSync(moved), readdirSync(other)]).toEqual([["file"], ["file"]]);
    expect(await text(`${moved}/file`)).toBe("the new one");
    expect(await text(`${other}/file`)).toBe("not this one");
  });

  it("are whole or not there when what they replace is swapped for a link, or the folder goes", async () => {
    mkdirSync(`${dir}/link-swap`);
    writeFileSync(`${dir}/link-swap/elsewhere`, "not this one");
    const writing = await begin(`${dir}/link-swap/file`);
    symlinkSync("elsewhere", `${dir}/link-swap/file`);
    await writing.finish();
    expect(await text(`${dir}/link-swap/file`)).toBe("the new one");
    expect(await text(`${dir}/link-swap/elsewhere`)).toBe("not this one");
    expect(leftovers(`${dir}/link-swap`)).toEqual([]);
    mkdirSync(`${dir}/folder-goes`);
    const late = await begin(`${dir}/folder-goes/file`);
    rmSync(`${dir}/folder-goes`, { recursive: true });
    expect(await codeOf(late.finish())).toBe("file_not_found");
    expect(existsSync(`${dir}/folder-goes`)).toBe(false);
  });

  it("that are written at once are one of them, whole", async () => {
    const contents = Array.from({ length: 12 }, (_, index) => String(index % 10).repeat(200_000 + index));
    await Promise.all(contents.map((content) => write(`${dir}/raced`, content)));
    expect(contents).toContain(await text(`${dir}/raced`));
  });

  it("that get shorter while they are read are an error, never whole", async () => {
    writeFileSync(`${dir}/shrinks`, "");
    truncateSync(`${dir}/shrinks`, 64 * MIB);
    const { body, size } = await readFile(agent, `${dir}/shrinks`, undefined, () => {});
    expect(size).toBe(64 * MIB);
    const reader = body.getReader();
    await reader.read();
    truncateSync(`${dir}/shrinks`, 1);
    const rest = (async () => {
      while (!(await reader.read()).done) {}
    })();
    expect(await codeOf(rest)).toBe("backend_unavailable");
  });

  it("that nobody reads to the end keep nothing running", async () => {
    truncateSync(`${dir}/shrinks`, 64 * MIB);
    let done = 0;
    const { body } = await readFile(agent, `${dir}/shrinks`, undefined, () => (done += 1));
    const reader = body.getReader();
    await reader.read();
    expect(agent.children().length).toBe(1);
    await reader.cancel();
    await until(() => agent.children().length === 0);
    expect(done).toBe(1);
  });

  it.skipIf(!isRoot)("are refused to an agent that may not", async () => {
    const own = await Agent.start(["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"]);
    const mine = () => readdirSync("/tmp").filter((name) => name.startsWith(".sandbar-") && isOfNobody(`/tmp/${name}`));
    const isOfNobody = (path: string) => lstatSync(path, { throwIfNoEntry: false })?.uid === NOBODY;
    try {
      mkdirSync(`${dir}/roots`, { mode: 0o755 });
      mkdirSync(`${dir}/closed`, { mode: 0o700 });
      chmodSync(dir, 0o755);
      writeFileSync(`${dir}/closed/file`, "secret");
      writeFileSync(`${dir}/roots/hidden`, "secret", { mode: 0o600 });
      writeFileSync(`${dir}/roots/readable`, "theirs");
      writeFileSync(`${dir}/roots/own`, "own", { mode: 0o640 });
      chownSync(`${dir}/roots/own`, NOBODY, NOBODY);
      for (const path of ["closed/file", "closed/none", "roots/hidden"]) {
        expect(await codeOf(read(`${dir}/${path}`, undefined, own)), path).toBe("permission_denied");
      }
      for (const path of ["closed/file", "closed/new", "roots/new", "roots/new/deep", "roots/readable"]) {
        expect(await codeOf(write(`${dir}/${path}`, "x", {}, own)), path).toBe("permission_denied");
      }
      expect(String((await read(`${dir}/roots/readable`, undefined, own)).body)).toBe("theirs");
      // Nothing can be put beside it, but it can be written.
      await write(`${dir}/roots/own`, "written", {}, own);
      expect(readFileSync(`${dir}/roots/own`, "utf8")).toBe("written");
      expect([statSync(`${dir}/roots/own`).uid, statSync(`${dir}/roots/own`).mode & 0o777]).toEqual([NOBODY, 0o640]);
      expect(readdirSync(`${dir}/roots`).sort()).toEqual(["hidden", "own", "readable"]);
      expect(mine()).toEqual([]);
      expect(await own.exec(["id", "-u"])).toMatchObject({ stdout: `${NOBODY}\n` });
      expect(await own.exec(["true"], { user: "root" })).toMatchObject({
        code: 126,
        stderr: "user: operation not permitted\n",
      });
    } finally {
      await own.end();
    }
  });

  describe.skipIf(noMounts !== undefined)("where something is mounted", () => {
    it("do not fit on a full disk, and the old one stays", async () => {
      const path = `${dir}/full/file`;
      await write(path, "old");
      expect(await codeOf(write(path, new Uint8Array(3 * MIB)))).toBe("disk_full");
      expect(await codeOf(write(`${dir}/full/another`, new Uint8Array(3 * MIB)))).toBe("disk_full");
      expect(readdirSync(`${dir}/full`)).toEqual(["file"]);
      expect(await text(path)).toBe("old");
      await write(path, "x".repeat(500_000), { size: 500_000 });
      expect((await read(path)).size).toBe(500_000);
    });

    it("that are a mount themselves are written in place", async () => {
      mkdirSync(`${dir}/bound`);
      writeFileSync(`${dir}/bound/file`, "old and longer");
      writeFileSync(`${dir}/bound/source`, "from outside, and longer");
      execFileSync("mount", ["--bind", `${dir}/bound/source`, `${dir}/bound/file`]);
      try {
        await write(`${dir}/bound/file`, "new");
        expect([await text(`${dir}/bound/file`), await text(`${dir}/bound/source`)]).toEqual(["new", "new"]);
        expect(leftovers(`${dir}/bound`)).toEqual([]);
        execFileSync("mount", ["-o", "remount,ro,bind", `${dir}/bound/file`]);
        expect(await codeOf(write(`${dir}/bound/file`, "newer"))).toBe("permission_denied");
        expect(await text(`${dir}/bound/source`)).toBe("new");
        expect(leftovers(`${dir}/bound`)).toEqual([]);
      } finally {
        execFileSync("umount", [`${dir}/bound/file`]);
      }
    });
  });

  it("beside it, ports are found open or not", async () => {
    const probe = async (port: number) => {
      const connection = await AgentConnection.open(agent, "T", list(String(port)));
      const { payload } = await connection.answer("t").finally(() => connection.close());
      return String(Buffer.from(payload));
    };
    const server = createServer();
    const port = await listening(server);
    expect(await probe(port)).toBe("1");
    await new Promise((done) => server.close(done));
    expect(await probe(port)).toBe("0");
  });
});
