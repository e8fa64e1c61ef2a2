import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { readArchive, writeArchive } from "../../src/backends/cloudflare/agent/archive.ts";
import { AgentConnection } from "../../src/backends/cloudflare/agent/connection.ts";
import { frame, list } from "../../src/backends/cloudflare/agent/frames.ts";
import { tarOf } from "../backends/tar.ts";
import { codeOf } from "../backends/under-test.ts";
import { failureAsRoot } from "./as-root.ts";
import { Agent, isRoot, noPerl } from "./cloudflare-agent.ts";
import { useAgent } from "./use-agent.ts";
import { MIB } from "./embedded-host.ts";
import { until } from "./signed-host.ts";

const dir = mkdtempSync("/tmp/sandbar-agent-archive-");

/** Why no machine can be made here that lacks something. */
const noNamespaces = failureAsRoot("unshare", "--mount", "true");
if (noNamespaces) console.log(`Cloudflare's agent without tar: skipped, ${noNamespaces}`);

describe.skipIf(noPerl !== undefined)("archives, by Cloudflare's agent", { timeout: 30_000 }, () => {
  let agent: Agent;
  useAgent(
    (started) => (agent = started),
    () => rmSync(dir, { recursive: true }),
  );

  const read = async (path: string, by = agent) =>
    Buffer.from(await new Response(await readArchive(by, path, () => {})).arrayBuffer());
  const write = (path: string, tar: Uint8Array<ArrayBuffer>, by = agent) =>
    writeArchive(by, path, new Response(tar).body!, { size: tar.length });
  const seen = (root: string) =>
    readdirSync(root, { recursive: true })
      .map(String)
      .sort()
      .map((name) => {
        const { mode, uid, gid, size, mtimeMs, nlink } = lstatSync(`${root}/${name}`);
        return {
          name,
          mode,
          uid,
          gid,
          nlink,
          mtime: Math.floor(mtimeMs / 1000),
          size: name.endsWith("in") ? 0 : size,
        };
      });

  it("bring back modes, owners, times and links", async () => {
    mkdirSync(`${dir}/from/in`, { recursive: true });
    writeFileSync(`${dir}/from/-dash`, "1");
    writeFileSync(`${dir}/from/in/new\nline`, "22");
    writeFileSync(`${dir}/from/in/tool`, "333");
    linkSync(`${dir}/from/in/tool`, `${dir}/from/same`);
    symlinkSync("/nowhere", `${dir}/from/link`);
    mkdirSync(`${dir}/from/in/empty`);
    if (isRoot) chownSync(`${dir}/from/in/tool`, 1234, 5678);
    chmodSync(`${dir}/from/in/tool`, 0o4755);
    chmodSync(`${dir}/from/in`, 0o1700);
    execFileSync("touch", ["-d", "2001-02-03 04:05:06Z", `${dir}/from/in/tool`]);
    const tar = await read(`${dir}/from`);
    await write(`${dir}/to/there`, new Uint8Array(tar));
    expect(seen(`${dir}/to/there`)).toEqual(seen(`${dir}/from`));
    expect(execFileSync("tar", ["-tf", "-"], { input: await read(`${dir}/from/-dash`) }).toString()).toBe("-dash\n");
  });

  it("hold what a link to a file leads to, and nothing of the kernel's", async () => {
    writeFileSync(`${dir}/target`, "behind");
    symlinkSync("target", `${dir}/link`);
    const listed = execFileSync("tar", ["-tvf", "-"], { input: await read(`${dir}/link`) }).toString();
    expect(listed).toMatch(/^-.* 6 .* link\n$/);
    expect(await codeOf(read("/dev/null"))).toBe("not_a_file");
  });

  it.each<[string, () => Uint8Array<ArrayBuffer>]>([
    ["is compressed", () => new Uint8Array(gzipSync(tarOf([{ name: "file", content: "x" }])))],
    ["is empty", () => new Uint8Array(0)],
    ["leads out by its names", () => tarOf([{ name: "fine" }, { name: "../outside" }])],
    ["leads out further down", () => tarOf([{ name: "fine" }, { name: "a/../../outside" }])],
  ])("that %s is refused, and nothing of it unpacked", async (_, tar) => {
    mkdirSync(`${dir}/refused`, { recursive: true });
    expect(await codeOf(write(`${dir}/refused`, tar()))).toBe("invalid_request");
    expect(readdirSync(`${dir}/refused`)).toEqual([]);
    expect(existsSync(`${dir}/outside`)).toBe(false);
  });

  it("take names with dots that lead nowhere", async () => {
    await write(`${dir}/dots`, tarOf([{ name: "..." }, { name: "..a" }, { name: "b../c" }]));
    expect(readdirSync(`${dir}/dots`, { recursive: true }).sort()).toEqual(["...", "..a", "b..", "b../c"]);
  });

  it("leave nothing when the client goes before their end", async () => {
    const connection = await AgentConnection.open(agent, "P", list(`${dir}/cut`));
    await connection.answer("k");
    await connection.send(frame("d", tarOf([{ name: "file", content: "x" }])));
    agent.socket.resetAndDestroy();
    await until(() => agent.children().length === 0);
    expect(existsSync(`${dir}/cut`)).toBe(false);
    expect(readdirSync("/tmp").filter((name) => name.startsWith(".sandbar-"))).toEqual([]);
  });

  it("that nobody reads to the end keep nothing running", async () => {
    mkdirSync(`${dir}/large`);
    writeFileSync(`${dir}/large/file`, "");
    truncateSync(`${dir}/large/file`, 256 * MIB);
    let done = 0;
    const body = await readArchive(agent, `${dir}/large`, () => (done += 1));
    const reader = body.getReader();
    await reader.read();
    await reader.cancel();
    await until(() => agent.children().length === 0);
    expect(done).toBe(1);
  });

  it.skipIf(!isRoot)("are never taken for whole when something cannot be read", async () => {
    mkdirSync(`${dir}/hidden`);
    writeFileSync(`${dir}/hidden/file`, "x");
    chmodSync(`${dir}/hidden/file`, 0o600);
    chmodSync(dir, 0o755);
    mkdirSync(`${dir}/nobodys`);
    chownSync(`${dir}/nobodys`, 65_534, 65_534);
    await Agent.alone(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], async (own) => {
      expect(await codeOf(read(`${dir}/hidden`, own))).toBe("backend_unavailable");
      expect(await codeOf(read(`${dir}/hidden/file`, own))).toBe("permission_denied");
      expect(await codeOf(write(`${dir}/hidden`, tarOf([{ name: "new" }]), own))).toBe("permission_denied");
      // Those of another user come to be those of who unpacks them.
      await write(`${dir}/nobodys/in`, tarOf([{ name: "file", content: "x", mode: "600" }]), own);
      expect(statSync(`${dir}/nobodys/in/file`).uid).toBe(65_534);
    });
  });

  describe.skipIf(noNamespaces !== undefined)("on a machine", () => {
    it("without tar are refused", async () => {
      const hide = 'for tar in /usr/bin/tar /bin/tar; do mount --bind /dev/null $tar; done; exec "$@"';
      await Agent.alone(["unshare", "--mount", "sh", "-c", hide, "sh"], async (own) => {
        expect(await codeOf(read(dir, own))).toBe("unsupported_by_backend");
        expect(await codeOf(write(`${dir}/without`, tarOf([{ name: "file" }]), own))).toBe("unsupported_by_backend");
        expect(existsSync(`${dir}/without`)).toBe(false);
      });
    });

    it("whose disk is full do not fit", async () => {
      mkdirSync(`${dir}/full`);
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", `${dir}/full`]);
      try {
        const tar = tarOf([{ name: "file", content: "x".repeat(3 * MIB) }]);
        expect(await codeOf(write(`${dir}/full`, tar))).toBe("disk_full");
      } finally {
        execFileSync("umount", [`${dir}/full`]);
      }
    });
  });
});
