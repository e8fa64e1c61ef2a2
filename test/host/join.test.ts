import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { deriveHostKey, formatJoinToken } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { readJoinFile } from "../../src/host/join-file.ts";
import { ReportTaker } from "./report-taker.ts";
import { until } from "./signed-host.ts";

const CLI = resolve(import.meta.dirname, "../../src/host/cli.ts");
const NODE = resolve(import.meta.dirname, "../../node_modules/.bin/node");
const hostId = newId("host");
const hostKey = await deriveHostKey("a-signing-secret", hostId);
const token = formatJoinToken(hostId, hostKey);

// The embedded runtime needs root.
describe.skipIf(process.getuid?.() !== 0)("sandbar host join", () => {
  let dataDir: string;
  let taker: ReportTaker;

  beforeEach(async () => {
    dataDir = mkdtempSync("/tmp/sandbar-join-");
    taker = await ReportTaker.start();
    taker.hostKey = hostKey;
  });
  afterEach(() => {
    taker.close();
    rmSync(dataDir, { recursive: true, force: true });
  });

  const start = (...args: string[]) => spawn(NODE, [CLI, "host", ...args, "--data-dir", dataDir]);
  const end = async (child: ReturnType<typeof start>) => {
    const output = Promise.all([text(child.stdout), text(child.stderr)]);
    const [code] = await once(child, "exit");
    const [stdout, stderr] = await output;
    return { code: code as number, stdout, stderr };
  };
  const join = (...more: string[]) =>
    start("join", "--runtime", "embedded", "--listen", "127.0.0.1:0", "--token", token, ...more);

  test("checks the token, keeps what it was given, and the host runs by that alone from then on", async () => {
    const options = ["--region", "eu-west", "--label", "disk=nvme", "--memory", "99999", "--cpu-overcommit", "3"];
    const joined = await end(join("--url", taker.url, ...options, "--no-run"));
    expect(joined).toMatchObject({
      code: 0,
      stdout: `sandbar host ${hostId} has joined ${taker.url}: sandbar host runs it\n`,
    });
    expect(readJoinFile(dataDir)).toMatchObject({ url: taker.url, token, region: "eu-west", "cpu-overcommit": "3" });
    expect(taker.reports.length).toBe(1);

    const host = start();
    expect(String((await once(host.stdout, "data"))[0])).toContain(`sandbar host ${hostId} on `);
    await until(() => taker.reports.length > 1);
    expect(taker.reports[1]).toMatchObject({
      info: {
        host_id: hostId,
        region: "eu-west",
        labels: { disk: "nvme" },
        capabilities: { regions: ["eu-west"], gpu: false },
        capacity: { cpu: expect.any(Number), cpu_overcommit: 3, memory: 99_999, gpus: [] },
      },
      disk_free: expect.any(Number),
    });
    host.kill("SIGTERM");
    expect((await end(host)).code).toBe(0);
  });

  test("runs the host at once", async () => {
    const host = join("--url", taker.url);
    expect(String((await once(host.stdout, "data"))[0])).toContain(`sandbar host ${hostId} on http://127.0.0.1:`);
    expect(readJoinFile(dataDir)).toMatchObject({ url: taker.url });
    host.kill("SIGTERM");
    expect((await end(host)).code).toBe(0);
  });

  test("says when the token is refused, and keeps nothing", async () => {
    taker.hostKey = await deriveHostKey("another-secret", hostId);
    const { code, stderr, stdout } = await end(join("--url", taker.url));
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(
      `sandbar: this host has not joined: the control plane at ${taker.url} refuses the token: it answers 401: The signature is not valid here and now.\n`,
    );
    expect(existsSync(`${dataDir}/join.json`)).toBe(false);
  });

  test("says when nobody answers", async () => {
    const { code, stderr } = await end(join("--url", "http://127.0.0.1:9"));
    expect(code).toBe(1);
    expect(stderr).toMatch(/the control plane at http:\/\/127\.0\.0\.1:9 cannot be reached: fetch failed/);
    expect(existsSync(`${dataDir}/join.json`)).toBe(false);
  });
});
