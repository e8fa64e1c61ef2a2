import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { describe, expect, it } from "vitest";
import { listFiles, makeDirectory, move, remove, stat } from "../../src/backends/cloudflare/agent/tree.ts";
import { codeOf } from "../backends/under-test.ts";
import { mountSmall } from "./as-root.ts";
import { Agent, isRoot, noPerl } from "./cloudflare-agent.ts";
import { useAgent } from "./use-agent.ts";
import { MIB } from "./embedded-host.ts";

const dir = mkdtempSync("/tmp/sandbar-agent-changes-");
/** Why no filesystem can be mounted here. */
const noMounts = mountSmall(`${dir}/other`);
if (noMounts) console.log(`Cloudflare's agent and other filesystems: skipped, ${noMounts}`);

describe.skipIf(noPerl !== undefined)("changes of directories, by Cloudflare's agent", { timeout: 40_000 }, () => {
  let agent: Agent;
  useAgent(
    (started) => (agent = started),
    () => {
      if (!noMounts) execFileSync("umount", [`${dir}/other`]);
      rmSync(dir, { recursive: true });
    },
  );

  const namesIn = (path: string) => readdirSync(path, { recursive: true }).map(String).sort();

  it("go away without what is swapped for a link meanwhile", async () => {
    const [folder, outside] = [`${dir}/swapped`, `${dir}/outside`];
    mkdirSync(outside);
    writeFileSync(`${outside}/precious`, "x");
    mkdirSync(folder);
    const script = `while :; do mkdir -p real/in; echo x > real/in/file; mv -T real turn; rm -rf turn; ln -sfn ${outside} real; rm -f real; done`;
    const swapper = spawn("sh", ["-c", `${script} 2>/dev/null`], { cwd: folder, stdio: "ignore" });
    try {
      for (let time = 0; time < 60; time++) {
        await codeOf(remove(agent, `${folder}/real`, true));
        await codeOf(remove(agent, `${folder}/real/in`, true));
      }
    } finally {
      swapper.kill("SIGKILL");
    }
    expect(readdirSync(outside)).toEqual(["precious"]);
  });

  it("of one file by two names leave it by the new one", async () => {
    writeFileSync(`${dir}/first`, "one");
    linkSync(`${dir}/first`, `${dir}/second-name`);
    await move(agent, `${dir}/first`, `${dir}/first`);
    expect(existsSync(`${dir}/first`)).toBe(true);
    await move(agent, `${dir}/first`, `${dir}/second-name`);
    expect(existsSync(`${dir}/first`)).toBe(false);
    expect(readFileSync(`${dir}/second-name`, "utf8")).toBe("one");
  });

  it("are not the root, nor what a name does not name", async () => {
    for (const path of ["/", "//"]) {
      expect(await codeOf(remove(agent, path, true))).toBe("permission_denied");
      expect(await codeOf(move(agent, path, `${dir}/root`))).toBe("permission_denied");
    }
    mkdirSync(`${dir}/dots/in`, { recursive: true });
    for (const end of [".", "..", "../"]) {
      expect(await codeOf(remove(agent, `${dir}/dots/in/${end}`, true))).toBe("invalid_request");
      expect(await codeOf(move(agent, `${dir}/dots/in`, `${dir}/dots/x/${end}`))).toBe("invalid_request");
    }
    writeFileSync(`${dir}/dots/file`, "");
    expect(await codeOf(remove(agent, `${dir}/dots/file/`, false))).toBe("not_a_directory");
    expect(namesIn(`${dir}/dots`)).toEqual(["file", "in"]);
  });

  it("cannot go into themselves by any way round", async () => {
    mkdirSync(`${dir}/self/in/deep`, { recursive: true });
    symlinkSync("in/deep", `${dir}/self/way`);
    for (const to of ["in/new", "in/deep/new/er", "way/new", "in/deep/../new"]) {
      expect(await codeOf(move(agent, `${dir}/self/in`, `${dir}/self/${to}`)), to).toBe("invalid_request");
    }
    expect(namesIn(`${dir}/self`)).toEqual(["in", "in/deep", "way"]);
  });

  it.skipIf(!isRoot)("are refused to an agent that may not", async () => {
    mkdirSync(`${dir}/roots/in`, { recursive: true });
    chmodSync(`${dir}/roots/in`, 0o700);
    chmodSync(dir, 0o755);
    await Agent.alone(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], async (own) => {
      expect(await codeOf(makeDirectory(own, `${dir}/roots/new`, false))).toBe("permission_denied");
      expect(await codeOf(makeDirectory(own, `${dir}/roots/new/er`, true))).toBe("permission_denied");
      expect(await codeOf(remove(own, `${dir}/roots/in`, true))).toBe("permission_denied");
      expect(await codeOf(move(own, `${dir}/roots/in`, "/tmp/sandbar-taken"))).toBe("permission_denied");
      expect(await codeOf(stat(own, `${dir}/roots/in/x`))).toBe("permission_denied");
      expect(await codeOf(listFiles(own, `${dir}/roots/in`, { depth: 1, limit: 1 }))).toBe("permission_denied");
      // What may not be looked into is listed all the same.
      const { data } = await listFiles(own, `${dir}/roots`, { depth: 9, limit: 9 });
      expect(data).toMatchObject([{ name: "in", permissions: "drwx------" }]);
    });
  });

  describe.skipIf(noMounts !== undefined)("on another filesystem", () => {
    it("are copied as they are, and then gone where they were", async () => {
      const [from, to] = [`${dir}/here`, `${dir}/other/new/there`];
      mkdirSync(`${from}/in`, { recursive: true });
      writeFileSync(`${from}/in/file`, "x".repeat(100_000));
      symlinkSync("in/file", `${from}/link`);
      execFileSync("mkfifo", [`${from}/fifo`]);
      chownSync(`${from}/in/file`, 1234, 5678);
      chmodSync(`${from}/in/file`, 0o4751);
      chmodSync(`${from}/in`, 0o1711);
      execFileSync("touch", ["-d", "2024-05-06 07:08:09Z", `${from}/in/file`, `${from}/in`]);
      const seen = (root: string) =>
        namesIn(root).map((name) => {
          const { mode, uid, gid, mtimeMs } = lstatSync(`${root}/${name}`);
          return [name, mode, uid, gid, name.startsWith("in") ? mtimeMs : 0];
        });
      const before = seen(from);
      await move(agent, from, to);
      expect(seen(to)).toEqual(before);
      expect(existsSync(from)).toBe(false);
      await move(agent, to, from);
      expect(seen(from)).toEqual(before);
      expect(namesIn(`${dir}/other`)).toEqual(["new"]);
    });

    it("that is full they do not come to be, and stay where they were", async () => {
      mkdirSync(`${dir}/large`);
      writeFileSync(`${dir}/large/file`, new Uint8Array(3 * MIB));
      expect(await codeOf(move(agent, `${dir}/large`, `${dir}/other/large`))).toBe("disk_full");
      expect(statSync(`${dir}/large/file`).size).toBe(3 * MIB);
      expect(namesIn(`${dir}/other`).filter((name) => name !== "new")).toEqual([]);
    });

    it("are not removed along with what it is mounted in", async () => {
      mkdirSync(`${dir}/mounted/in`, { recursive: true });
      writeFileSync(`${dir}/mounted/in/file`, "");
      mkdirSync(`${dir}/mounted/point`);
      execFileSync("mount", ["-t", "tmpfs", "tmpfs", `${dir}/mounted/point`]);
      try {
        writeFileSync(`${dir}/mounted/point/file`, "");
        expect(await codeOf(remove(agent, `${dir}/mounted`, true))).toBe("permission_denied");
        expect(existsSync(`${dir}/mounted/point/file`)).toBe(true);
      } finally {
        execFileSync("umount", [`${dir}/mounted/point`]);
      }
    });
  });
});
