import { execSync } from "node:child_process";
import { createHash } from "node:crypto";
import { afterAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { bytes, DockerHost, exec, follow, inspect, noEngine, sh, spawn } from "./docker-host.ts";
import { until } from "./signed-host.ts";

const hash = (data: Buffer | string) => createHash("sha256").update(data).digest("hex");

describe.skipIf(noEngine !== undefined).each([true, false])(
  "exec by a launcher: %s",
  { timeout: 30_000 },
  (useLauncher) => {
    const opened = DockerHost.open({ useLauncher });
    const idle = async () => (await opened).idle();
    afterAll(async () => (await opened).close());

    it.each([
      [["true"], 0],
      [["sh", "-c", "exit 3"], 3],
      [["sh", "-c", "kill -9 $$"], 137],
      [["sh", "-c", "kill -15 $$"], 143],
      [["sh", "-c", "exit 127"], 127],
    ])("%j ends with %i", async (command, code) => {
      expect(await exec(await idle(), command)).toEqual({ stdout: "", stderr: "", code });
    });

    it.each([
      [["nope"], undefined, 127, /not found/],
      [["/nope"], undefined, 127, /not found|no such file or directory/],
      [["/etc/passwd"], undefined, 126, /permission denied/],
      [["true"], "/nope", 126, /no such (file or )?directory/],
      [["true"], "/etc/passwd", 126, /not a directory/],
    ])("%j in %s is refused with %i on stderr", async (command, workdir, code, reason) => {
      const result = await exec(await idle(), command, workdir ? { workdir } : {});
      expect(result).toEqual({ stdout: "", stderr: expect.stringMatching(reason), code });
      expect(result.stderr).toMatch(/^[^\n]+\n$/);
      const silent = await exec(await idle(), command, { stderr: "ignore", ...(workdir && { workdir }) });
      expect(silent).toEqual({ stdout: "", stderr: "", code });
    });

    it("passes every argument as it is, the program's own name too", async () => {
      const words = ["a'b", "", "\n*", "ā$(x)`\\", '"', "-n", "x=1"];
      const script = `import os,sys; sys.stdout.buffer.write(open("/proc/self/cmdline","rb").read())`;
      const { stdout } = await exec(await idle(), ["python3", "-c", script, ...words]);
      expect(stdout.split("\0")).toEqual(["python3", "-c", script, ...words, ""]);
      expect((await exec(await idle(), ["/bin/sh", "-c", "nope"])).stderr).toContain("/bin/sh: 1: nope");
      expect((await exec(await idle(), ["sh", "-c", "nope"])).stderr).toMatch(/^sh: 1: nope/);
    });

    it("gives the container's variables and the process's own, whatever a shell thinks of them", async () => {
      const odd = { IFS: "xy", PWD: "/bogus", OPTIND: "7", PPID: "4", UID: "5", LANG: "xx", ENV: "/e", __dir: "1" };
      const container = await (
        await opened
      ).start({ env: { ...odd, OWN: "a\nb", A: "container" }, workdir: "/made/new" });
      const read = `import os; print(*[os.getcwd(), *[k + "=" + v for k, v in os.environ.items()]], sep="\\0", end="")`;
      const env = { A: "process", HOSTNAME: "mine", RANDOM: "3" };
      const seen = async (more: object) => {
        const [workdir, ...entries] = (await exec(container, ["python3", "-c", read], more)).stdout.split("\0");
        return [workdir, Object.fromEntries(entries.map((entry) => /^(.*?)=(.*)$/s.exec(entry)!.slice(1)))] as const;
      };
      const [workdir, all] = await seen({ env });
      expect(workdir).toBe("/made/new");
      const python = { LC_CTYPE: expect.any(String) };
      const engine = { PATH: expect.stringContaining("/usr/bin"), HOME: "/root" };
      const got = { ...all, ...python };
      expect(got).toEqual({ ...odd, OWN: "a\nb", ...env, ...engine, ...python });
      expect(await seen({ workdir: "/usr" })).toMatchObject(["/usr", { A: "container", OWN: "a\nb" }]);
    });

    it("gives a program that prints the engine's words its stdout", async () => {
      const words = "OCI runtime exec failed: not at all";
      const result = await sh(await idle(), `echo "${words}"; exit 126`);
      expect(result).toEqual({ stdout: `${words}\n`, stderr: "", code: 126 });
    });

    it("passes 5 MiB of any bytes exactly, stderr beside it", async () => {
      const script =
        "import sys\nb=bytes(i*7%256 for i in range(5<<20))\nsys.stderr.write('e'*100000)\nsys.stdout.buffer.write(b)";
      const process = await spawn(await idle(), ["python3", "-c", script]);
      const output = Promise.all([bytes(process.stdout.stream()), bytes(process.stderr.stream())]);
      expect(await process.exited).toBe(0);
      process.release();
      const [stdout, stderr] = await output;
      const want = Buffer.from(Uint8Array.from({ length: 5 << 20 }, (_, index) => index * 7));
      expect([stdout.length, hash(stdout), stderr.length]).toEqual([want.length, hash(want), 100_000]);
    });

    it("holds a process back while nobody reads, and loses nothing", async () => {
      const process = await spawn(await idle(), ["head", "-c", "20000000", "/dev/zero"]);
      let hasExited = false;
      void process.exited.then(() => (hasExited = true));
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      expect(hasExited).toBe(false);
      const output = bytes(process.stdout.stream());
      expect(await process.exited).toBe(0);
      process.release();
      expect((await output).length).toBe(20_000_000);
    });

    // As much as a pipe holds by itself: a process with more waits for its reader.
    it("tells the end of a process whose output nobody reads", async () => {
      const process = await spawn(await idle(), ["head", "-c", "32000", "/dev/zero"]);
      expect(await process.exited).toBe(0);
      const output = bytes(process.stdout.stream());
      process.release();
      expect((await output).length).toBe(32_000);
    });

    it("throws away what is to be ignored, and is not held up by it", async () => {
      const script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo out; echo err >&2; exit 4";
      for (const ignored of [["stdout"], ["stderr"], ["stdout", "stderr"]]) {
        const modes = Object.fromEntries(ignored.map((stream) => [stream, "ignore" as const]));
        const { stdout, stderr, code } = await sh(await idle(), script, modes);
        const sizes = { stdout: stdout.length, stderr: stderr.length };
        const all = { stdout: 3_000_004, stderr: 3_000_004 };
        expect([sizes, code]).toEqual([{ ...all, ...Object.fromEntries(ignored.map((stream) => [stream, 0])) }, 4]);
      }
      // Also while nobody reads the other one.
      const unread = "echo x >&2; head -c 3000000 /dev/zero";
      const process = await spawn(await idle(), ["sh", "-c", unread], { stdout: "ignore" });
      expect(await process.exited).toBe(0);
    });

    it("ends the input of a process that has none, or has been given all of it", async () => {
      expect(await exec(await idle(), ["cat"])).toEqual({ stdout: "", stderr: "", code: 0 });
      const big = "0123456789".repeat(200_000);
      const { stdout, code } = await exec(await idle(), ["sha256sum"], { stdin: big });
      expect([stdout.slice(0, 64), code]).toEqual([hash(big), 0]);
      expect((await exec(await idle(), ["true"], { stdin: "x".repeat(3_000_000) })).code).toBe(0);
    });

    it("keeps an open input open until its end", async () => {
      const process = await spawn(await idle(), ["cat"], { input: "open" });
      const seen = follow(process.stdout.stream());
      for (const word of ["one", "two"]) {
        process.stdin.write(word);
        await until(() => seen.text.endsWith(word));
      }
      process.stdin.end();
      expect([await process.exited, seen.text]).toEqual([0, "onetwo"]);
      process.release();
    });

    it("ends a process whose input stays open", async () => {
      const process = await spawn(await idle(), ["echo", "hi"], { input: "open" });
      const output = bytes(process.stdout.stream());
      expect(await process.exited).toBe(0);
      process.release();
      expect((await output).toString()).toBe("hi\n");
    });

    it("kills the whole group, grandchildren too", async () => {
      const container = await idle();
      const process = await spawn(container, [
        "sh",
        "-c",
        "(sh -c 'sleep 4321; :' & wait) & sleep 4321 & echo up; wait",
      ]);
      const seen = follow(process.stdout.stream());
      await until(() => seen.text !== "");
      await process.kill("SIGKILL");
      expect(await process.exited).toBe(137);
      const left = await sh(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 4321'");
      expect(left.stdout.trim()).toBe("0");
      await process.kill("SIGKILL");
    });

    it("lets a process handle a signal", async () => {
      const process = await spawn(await idle(), [
        "sh",
        "-c",
        "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done",
      ]);
      const seen = follow(process.stdout.stream());
      await until(() => seen.text !== "");
      await process.kill("SIGTERM");
      expect(await process.exited).toBe(42);
    });

    it("tells of the end of a process whose child keeps stdout", async () => {
      // Its own container: engine 20.10 tells of other ends in it only when the child has let go.
      const container = await (await opened).start();
      const process = await spawn(container, ["sh", "-c", "sleep 6 & echo hi; exit 5"]);
      const seen = follow(process.stdout.stream());
      const before = Date.now();
      expect(await process.exited).toBe(5);
      expect(Date.now() - before).toBeLessThan(1500);
      expect(seen.text).toBe("hi\n");
    });

    it("runs 20 at once, each with its own output", async () => {
      const container = await idle();
      const results = await Promise.all(Array.from({ length: 20 }, (_, n) => sh(container, `echo ${n}; exit ${n}`)));
      expect(results.map(({ stdout, code }) => [stdout, code])).toEqual(results.map((_, n) => [`${n}\n`, n]));
    });

    it("runs as another user where one is named, and refuses one that is not there", async () => {
      const container = await idle();
      const who = (user: string) => sh(container, "id -u; id -g; echo $HOME", { user });
      expect(await who("nobody")).toMatchObject({ stdout: "65534\n65534\n/nonexistent\n", code: 0 });
      expect(await who("1234:55")).toMatchObject({ stdout: "1234\n55\n/\n", code: 0 });
      const refused = { stdout: "", stderr: expect.stringMatching(/^unable to find user whoever.*\n$/), code: 126 };
      expect(await who("whoever")).toEqual(refused);
      const process = await spawn(container, ["sleep", "4322"], { user: "nobody" });
      await process.kill("SIGTERM");
      expect(await process.exited).toBe(143);
    });

    it("goes on during a snapshot as soon as it can", async () => {
      const [container, imageId] = [await idle(), newId("image")];
      const snapshot = container.snapshot(imageId);
      const results = await Promise.all(Array.from({ length: 10 }, () => exec(container, ["echo", "hi"])));
      expect(results.map(({ stdout }) => stdout)).toEqual(results.map(() => "hi\n"));
      await snapshot;
      await (await opened).runtime.removeImage(imageId);
    });

    it("takes its processes along when the container is stopped", async () => {
      const container = await (await opened).start();
      const process = await spawn(container, ["sleep", "100"]);
      const away = await spawn(container, ["sh", "-c", "setsid sh -c 'echo up; exec sleep 4323' & wait"]);
      const seen = follow(away.stdout.stream());
      await until(() => seen.text !== "");
      await Promise.all([container.stop(), container.stop()]);
      expect(await container.exited).toEqual({ returncode: 137, oom: false });
      expect([await process.exited, await away.exited]).toEqual([undefined, undefined]);
      expect(() => execSync("pgrep -fx 'sleep 4323'", { stdio: "pipe" })).toThrow();
      expect(() => inspect(container, "{{.Id}}")).toThrow();
      await container.stop();
      await expect(spawn(container, ["true"])).rejects.toMatchObject({ code: "sandbox_ended" });
    });
  },
);
