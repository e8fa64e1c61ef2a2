import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { Launcher } from "../../src/host/launcher/launcher.ts";

const shells = {
  dash: ["/bin/dash", "setsid"],
  bash: ["/bin/bash", "setsid"],
  "busybox ash": ["/usr/bin/busybox", "/usr/bin/busybox setsid"],
} as const;
let init: ChildProcess | undefined;
afterEach(() => init?.kill("SIGKILL"));

for (const [name, [program, setsid]] of Object.entries(shells)) {
  test.runIf(existsSync(program))(`the launcher runs in ${name}`, async () => {
    const dir = mkdtempSync("/tmp/sandbar-launcher-");
    const launcher = await Launcher.create({ controlDir: dir, insideDir: dir, signalGroup: async () => true });
    const shell = name === "busybox ash" ? [program, "sh"] : [program];
    const namespaces = ["-r", "--pid", "--fork", "--kill-child", "--mount-proc"];
    init = spawn("unshare", [...namespaces, ...shell, `${dir}/launcher.sh`, dir, ...setsid.split(" ")], {
      stdio: "ignore",
    });
    await launcher.ready;
    const runOne = async (command: string[], env: Record<string, string> = {}) => {
      const child = await launcher.spawn({ command, env, workdir: "/", input: "once" });
      let text = "";
      const stdout = child.stdout.stream();
      stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
      child.stderr.stream().resume();
      const end = once(stdout, "end");
      child.stdin.end("in");
      const code = await child.exited;
      child.release();
      await end;
      return [code, text];
    };
    expect(await runOne(["sh", "-c", "cat; exit 3"])).toEqual([3, "in"]);
    expect(await runOne(["printf", "%s|", "a'b", "", "\n*", "ā\u0081"])).toEqual([0, "a'b||\n*|ā\u0081|"]);
    expect(await runOne(["sh", "-c", 'printf %s "$PATH_LIKE"; kill -INT $$'], { PATH_LIKE: "$(x)'\n" })).toEqual([
      130,
      "$(x)'\n",
    ]);
    expect(await runOne(["env"], { UID: "5", PATH: "/usr/bin:/bin" })).toEqual([0, expect.stringMatching(/^UID=5$/m)]);
    expect(await runOne(["nothing-of-that-name"])).toEqual([127, ""]);
    expect(await Promise.all(Array.from({ length: 40 }, (_, index) => runOne(["sh", "-c", `exit ${index}`])))).toEqual(
      Array.from({ length: 40 }, (_, index) => [index, ""]),
    );
    const zombies = await runOne(["sh", "-c", "grep -h ^State: /proc/[0-9]*/status | grep -c Z || :"]);
    expect(zombies).toEqual([0, "0\n"]);
    const last = await launcher.spawn({ command: ["sleep", "60"], env: {}, workdir: "/", input: "none" });
    await last.launched;
    init.kill("SIGKILL");
    expect(await last.exited).toBe(undefined);
    await launcher.gone;
    rmSync(dir, { recursive: true, force: true });
  });
}
