import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { deriveHostKey, formatJoinToken } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";

const CLI = resolve(import.meta.dirname, "../../src/host/cli.ts");
const NODE = resolve(import.meta.dirname, "../../node_modules/.bin/node");
const dataDir = mkdtempSync("/tmp/sandbar-cli-");
const hostId = newId("host");
const token = formatJoinToken(hostId, await deriveHostKey("a-signing-secret", hostId));
afterAll(() => rmSync(dataDir, { recursive: true, force: true }));

const run = (...args: string[]) => spawnSync(NODE, [CLI, ...args], { encoding: "utf8", timeout: 20_000 });
const ARGS = ["host", "--control-plane", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--runtime", "embedded"];
const start = (...args: string[]) =>
  spawn(NODE, [CLI, ...ARGS, "--data-dir", dataDir, ...args], { env: { ...process.env, SANDBAR_TOKEN: token } });
const firstLine = async (child: ChildProcess) => String((await once(child.stdout!, "data"))[0]);

describe("sandbar host", () => {
  test("says what is wrong with its arguments", () => {
    for (const [args, message] of [
      [[], /a command is missing/],
      [["guest"], /no command "guest"/],
      [["host"], /--control-plane/],
      [["host", "--control-plane", "http://x"], /--token/],
      [["host", "--control-plane", "http://x", "--token", "x"], /no join token/],
      [["host", "--control-plane", "nowhere", "--token", token], /must be an http/],
      [["host", "--control-plane", "http://x", "--token", token, "--runtime", "jail"], /auto, docker, embedded/],
      [["host", "--control-plane", "http://x", "--token", token, "--listen", "0.0.0.0:1"], /--advertise/],
      [["host", "--unknown"], /--unknown/],
    ] as const) {
      const { status, stderr } = run(...args);
      expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
    }
    expect(run("host", "--help")).toMatchObject({ status: 0, stdout: expect.stringContaining("--data-dir") });
  });

  // The embedded runtime needs root.
  test.skipIf(process.getuid?.() !== 0)("owns its data directory, and ends with its parent", async () => {
    const first = start("--ephemeral");
    expect(await firstLine(first)).toMatch(
      new RegExp(`^sandbar host ${hostId} on http://127.0.0.1:\\d+: embedded \\(as asked\\)\n$`),
    );
    const second = start();
    let complaint = "";
    second.stderr.on("data", (chunk) => (complaint += chunk));
    expect((await once(second, "exit"))[0]).toBe(1);
    expect(complaint).toContain("in use by another sandbar host");
    first.stdin.end();
    expect((await once(first, "exit"))[0]).toBe(0);
    expect(existsSync(`${dataDir}/host.lock`)).toBe(false);
  });

  test.skipIf(process.getuid?.() !== 0)("takes over after a crash", async () => {
    const crashed = start();
    await firstLine(crashed);
    crashed.kill("SIGKILL");
    await once(crashed, "exit");
    expect(existsSync(`${dataDir}/host.lock`)).toBe(true);
    const next = start();
    await firstLine(next);
    next.kill("SIGTERM");
    expect((await once(next, "exit"))[0]).toBe(0);
  });
});
