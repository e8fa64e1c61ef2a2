import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AgentConnection } from "../../src/backends/cloudflare/agent/connection.ts";
import { list } from "../../src/backends/cloudflare/agent/frames.ts";
import { AGENT_PROGRAM } from "../../src/backends/cloudflare/agent/program.ts";
import { newId } from "../../src/contract/ids.ts";
import { Agent, isRoot, noPerl } from "./cloudflare-agent.ts";
import { until } from "./signed-host.ts";

describe.skipIf(noPerl !== undefined)("Cloudflare's agent", { timeout: 30_000 }, () => {
  const dir = mkdtempSync("/tmp/sandbar-agent-");
  let agent: Agent;

  beforeAll(async () => {
    agent = await Agent.start();
  });
  afterAll(async () => {
    await agent?.end();
    rmSync(dir, { recursive: true });
  });

  describe("the program", () => {
    it("is accepted by perl, without a warning", () => {
      const { stderr } = spawnSync("perl", ["-c", "-e", AGENT_PROGRAM], { encoding: "utf8" });
      expect(stderr).toBe("-e syntax OK\n");
    });

    it("uses nothing beyond what `perl-base` brings along", () => {
      const statements = AGENT_PROGRAM.split(/[;\n]/).map((statement) => statement.trim());
      const used = statements.map((statement) => /^(?:use|no|require)\s+([\w:]+)/.exec(statement)?.[1]).filter(Boolean);
      expect(new Set(used)).toEqual(new Set(["strict", "warnings", "Socket", "Fcntl", "POSIX", "Cwd", "Errno"]));
    });

    it("does not start without a token that is worth the name", () => {
      const env = { PATH: process.env["PATH"], SANDBAR_AGENT_TOKEN: "short", SANDBAR_AGENT_PORT: "1" };
      const { status, stderr } = spawnSync("perl", ["-e", AGENT_PROGRAM], { encoding: "utf8", env });
      expect([status, stderr]).toEqual([expect.any(Number), "no token\n"]);
      expect(status).not.toBe(0);
    });
  });

  describe("a process", () => {
    it.each([
      [["true"], {}, { code: 0, signal: 0, stderr: "" }],
      [["sh", "-c", "exit 3"], {}, { code: 3, signal: 0, stderr: "" }],
      [["sh", "-c", "kill -9 $$"], {}, { code: 0, signal: 9, stderr: "" }],
      [["sh", "-c", "kill -15 $$"], {}, { code: 0, signal: 15, stderr: "" }],
      [["no-such-program"], {}, { code: 127, signal: 0, stderr: "no-such-program: not found\n" }],
      [["/no/such"], {}, { code: 127, signal: 0, stderr: "/no/such: no such file or directory\n" }],
      [["/etc/passwd"], {}, { code: 126, signal: 0, stderr: "/etc/passwd: permission denied\n" }],
      [["true"], { workdir: "/nope" }, { code: 126, signal: 0, stderr: "/nope: no such file or directory\n" }],
      [["true"], { workdir: "/etc/passwd" }, { code: 126, signal: 0, stderr: "/etc/passwd: not a directory\n" }],
      [["nope"], { stderr: "ignore" as const }, { code: 127, signal: 0, stderr: "" }],
    ])("%j %j ends with %j", async (command, more, end) => {
      expect(await agent.exec(command, more)).toEqual({ stdout: "", ...end });
    });

    it("that cannot be run says so however many others end meanwhile", async () => {
      const commands = Array.from({ length: 200 }, (_, index) => (index % 2 === 0 ? ["true"] : ["nope"]));
      const results = await Promise.all(commands.map((command) => agent.exec(command)));
      expect(new Set(results.map((result) => JSON.stringify(result)))).toEqual(
        new Set([
          JSON.stringify({ code: 0, signal: 0, stdout: "", stderr: "" }),
          JSON.stringify({ code: 127, signal: 0, stdout: "", stderr: "nope: not found\n" }),
        ]),
      );
    });

    it("is told of with its pid, what it has been given, and why it does not run", async () => {
      const fine = await agent.start(["sleep", "60"], { stdin: btoa("abc"), open_stdin: true });
      await until(() => fine.pid > 0);
      expect(agent.children()).toContain(fine.pid);
      expect(fine).toMatchObject({ received: 3, isOpen: true, failure: "" });
      fine.signal("SIGKILL");
      expect(await fine.end()).toEqual({ code: 0, signal: 9 });
      const missing = await agent.start(["nope"]);
      await missing.end();
      expect(missing).toMatchObject({ isOpen: false, failure: "nope: not found" });
    });

    it("keeps stdout and stderr apart, and shows neither where it is ignored", async () => {
      const script = "echo out; echo err >&2";
      const run = async (more: object) => {
        const { stdout, stderr } = await agent.exec(["sh", "-c", script], more);
        return [stdout, stderr];
      };
      expect(await run({})).toEqual(["out\n", "err\n"]);
      expect(await run({ stdout: "ignore" })).toEqual(["", "err\n"]);
      expect(await run({ stderr: "ignore" })).toEqual(["out\n", ""]);
      expect(await run({ stdout: "ignore", stderr: "ignore" })).toEqual(["", ""]);
    });

    it("has its arguments, its variables and its directory as they are", async () => {
      const words = ["a'b", "", "\n*", "ā$(x)`\\", '"', "-n", "x=1"];
      const { stdout } = await agent.exec(["perl", "-e", 'print join "\\0", @ARGV', "--", ...words]);
      expect(stdout.split("\0")).toEqual(words);
      const env = { ONE: "a=b\nc", EMPTY: "", IFS: "xy" };
      const shown = await agent.exec(["perl", "-e", 'print join "\\0", map { "$_=$ENV{$_}" } qw(ONE EMPTY IFS)'], {
        env,
      });
      expect(shown.stdout.split("\0")).toEqual(["ONE=a=b\nc", "EMPTY=", "IFS=xy"]);
      expect((await agent.exec(["pwd"], { workdir: dir })).stdout).toBe(`${dir}\n`);
    });

    it("has the sandbox's variables below its own, and the directory that was asked for", async () => {
      await Agent.alone([], async (own) => {
        const variables = ["FROM_START=start", "OWN=start", "PERL5OPT=-Mno::such"];
        const boot = await AgentConnection.open(own, "B", list(`${dir}/made/new`, ...variables));
        await boot.answer("b");
        boot.close();
        const { stdout } = await own.exec(["sh", "-c", "echo $FROM_START $OWN $PERL5OPT; pwd"], {
          env: { OWN: "own" },
          workdir: `${dir}/made/new`,
        });
        expect(stdout).toBe(`start own -Mno::such\n${dir}/made/new\n`);
        const refused = await AgentConnection.open(own, "B", list("/etc/passwd/below"));
        await expect(refused.answer("b")).rejects.toThrow(/workdir \/etc\/passwd\/below: not a directory/);
      });
    });

    it.skipIf(!isRoot)("runs as who it is to run as", async () => {
      const who = async (user: string) => {
        const { code, stdout, stderr } = await agent.exec(["sh", "-c", "id -u; id -g; id -G; echo $HOME"], { user });
        return code === 0 ? stdout.trim().split("\n") : [code, stderr];
      };
      const nobody = execFileSync("getent", ["passwd", "nobody"], { encoding: "utf8" }).trim().split(":");
      expect(await who("nobody")).toEqual([nobody[2], nobody[3], nobody[3], nobody[5]]);
      expect(await who("1234")).toEqual(["1234", "0", "0", "/"]);
      expect(await who("1234:5")).toEqual(["1234", "5", "5", "/"]);
      const home = await agent.exec(["sh", "-c", "echo $HOME"], { user: "nobody", env: { HOME: "/own" } });
      expect(home.stdout).toBe("/own\n");
      for (const [user, detail] of [
        ["nosuch", "There is no user nosuch in the sandbox."],
        ["nobody:nosuch", "There is no group nosuch in the sandbox."],
      ]) {
        const refused = await agent.start(["true"], { user: user! });
        await refused.closed();
        expect(refused.refusal).toEqual(["exec_failed", detail]);
      }
      rmSync(`${dir}/closed`, { recursive: true, force: true });
      execFileSync("mkdir", ["-m", "700", `${dir}/closed`]);
      expect(await agent.exec(["pwd"], { user: "nobody", workdir: `${dir}/closed` })).toMatchObject({
        code: 126,
        stderr: `${dir}/closed: permission denied\n`,
      });
      // What is not in PATH is not found, though a part of it may not be looked into.
      const env = { PATH: `${dir}/closed:/usr/bin:/bin` };
      expect(await agent.exec(["true"], { user: "nobody", env })).toMatchObject({ code: 0 });
      expect(await agent.exec(["nope"], { user: "nobody", env })).toMatchObject({
        code: 127,
        stderr: "nope: not found\n",
      });
    });

    it("never sees the token, nor does who looks at the agent", async () => {
      const { stdout } = await agent.exec(["env", "-0"]);
      expect(stdout).toContain("PATH=");
      expect(stdout).not.toMatch(/SANDBAR|0123456789abcdef/);
      const { pid } = agent.child;
      const seen = await agent.exec(["cat", `/proc/${pid}/environ`, `/proc/${pid}/cmdline`]);
      expect(seen.code).toBe(0);
      expect(seen.stdout).toContain("sandbar-agent");
      expect(seen.stdout).not.toContain(agent.token);
    });

    it("starts once, whoever asks again", async () => {
      const process_id = newId("process");
      const command = ["sh", "-c", `echo x >>${dir}/starts; echo started; exec sleep 60`];
      const more = { process_id, acknowledges: false };
      const [first, second] = await Promise.all([agent.start(command, more), agent.start(command, more)]);
      await until(() => first.isClosed || second.isClosed);
      const third = await agent.start(["false"], more);
      await third.shows("started\n");
      expect(readFileSync(`${dir}/starts`, "utf8")).toBe("x\n");
      expect(new Set([first.pid, second.pid, third.pid].filter(Boolean)).size).toBe(1);
      third.signal("SIGKILL");
      expect(await third.end()).toMatchObject({ signal: 9 });
    });

    it("gets signals with its whole group, and none once it has ended", async () => {
      const client = await agent.start(["sh", "-c", "sleep 61 & echo $!; wait"]);
      await until(() => client.output("stdout").length > 0);
      const job = String(client.output("stdout")).trim();
      client.signal("SIGTERM");
      await until(() => client.exit !== undefined);
      expect(client.exit).toEqual({ code: 0, signal: 15 });
      await until(() => !existsSync(`/proc/${job}`) || readFileSync(`/proc/${job}/stat`, "utf8").includes(" Z "));
      client.signal("SIGKILL");
      await client.end();
      expect(await agent.answers()).toBe(true);
    });

    it("ends though something in the background holds its output, which is kept until then", async () => {
      const begin = performance.now();
      const held = await agent.exec(["sh", "-c", "echo before; sleep 3 & exit 4"]);
      expect(held).toEqual({ code: 4, signal: 0, stdout: "before\n", stderr: "" });
      expect(performance.now() - begin).toBeLessThan(700);
      // Its own last words lie in the pipe when it ends, with a reader that takes its time.
      const client = await agent.start(["sh", "-c", "head -c 900000 /dev/zero; sleep 3 & exit 5"], {
        acknowledges: false,
      });
      expect(await client.end()).toMatchObject({ code: 5 });
      expect(client.at.stdout).toBe(900_000);
    });

    it("ends though something in the background never stops to write", async () => {
      const script = "perl -e '$x = qq(b) x 65536; syswrite STDOUT, $x while 1' & echo first; exit 6";
      for (const acknowledges of [true, false]) {
        const begin = performance.now();
        const client = await agent.start(["sh", "-c", script], { acknowledges });
        expect(await client.end()).toEqual({ code: 6, signal: 0 });
        expect(performance.now() - begin).toBeLessThan(2_000);
        expect(client.output("stdout").includes("first\n")).toBe(true);
      }
    });
  });
});
