import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { ChildRuntime } from "./child-runtime.ts";
import { SignedHost } from "./signed-host.ts";

const runtime = new ChildRuntime();
const dir = mkdtempSync("/tmp/sandbar-hostile-");
let host: SignedHost;
let box: string;

beforeAll(async () => {
  host = await SignedHost.start(runtime);
});
afterAll(async () => {
  await host.daemon.close({ stopContainers: true });
  rmSync(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  box = await host.sandbox();
});
afterEach(() => vi.useRealTimers());

/** Takes the place of the sandbox's /bin/sh. */
function shell(script: string): void {
  writeFileSync(`${dir}/sh`, `#!/bin/sh\n${script}\n`);
  chmodSync(`${dir}/sh`, 0o755);
  runtime.started.at(-1)!.shell = `${dir}/sh`;
}

const isBusy = async () => (await host.call("GET", box)).json.busy;
/** Twenty real milliseconds: programs and sockets must not be slower than the clock that the test turns. */
async function realPause(): Promise<void> {
  for (const until = performance.now() + 20; performance.now() < until;)
    await new Promise((wake) => setImmediate(wake));
}

/** Lets the host's own time limits pass; sockets and processes go by the real clock. */
async function passTime(holds: () => boolean | Promise<boolean>, patienceMs = 10_000): Promise<void> {
  const giveUpAt = performance.now() + patienceMs;
  while (!(await holds())) {
    if (performance.now() > giveUpAt) throw new Error("it did not come");
    await vi.advanceTimersByTimeAsync(1_000);
    await realPause();
  }
}

const READS = {
  "says a size and no more": "echo file 5; exec sleep 600",
  "says no size and no more": "echo file 0; exec sleep 600",
  "sends a part of the file": "echo file 500000; echo part; exec sleep 600",
};
const NEVER_READS = "echo ready; exec sleep 600";

test.each(Object.entries(READS))("a read by a shell that %s ends", async (_, script) => {
  shell(script);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  let answer: unknown;
  void host.call("GET", `${box}/files?path=/x`).then(
    ({ json }) => (answer = json.code),
    () => (answer = "cut"),
  );
  await passTime(() => answer !== undefined);
  expect(answer).toBe(script.includes("part") ? "cut" : "backend_unavailable");
  expect(await isBusy()).toBe(false);
});

test.each([
  ["is killed before it says a word", "kill -9 $$", 503, "backend_unavailable"],
  ["ends without a word", "exit 2", 422, "unsupported_by_backend"],
])("a write by a shell that %s", async (_, script, status, code) => {
  shell(script);
  const answer = await host.call("PUT", `${box}/files?path=/x&size=1`, { body: "x" });
  expect([answer.status, answer.json.code]).toEqual([status, code]);
});

const LOOKS = {
  "says nothing of a file": ["stat?path=/x", "echo found; exec sleep 600", "backend_unavailable"],
  "says nothing of a directory": ["list?path=/x", "echo found; exec sleep 600", "backend_unavailable"],
  "talks without an end": ["list?path=/x", "echo found; exec yes", "internal"],
  "talks nonsense": ["stat?path=/x", 'echo found; for n in 1 2 3; do printf "%s" "$5$5$5$5"; done', "internal"],
  "stops in the middle": ["list?path=/x", 'echo found; printf "81a4 1 1 0 0 x"', "internal"],
} as const;

test.each(Object.entries(LOOKS))("a look by a shell that %s ends", async (_, [call, script, expected]) => {
  shell(script);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  let code: unknown;
  void host.call("GET", `${box}/files/${call}`).then(({ json }) => (code = json.code));
  await passTime(() => code !== undefined);
  expect(code).toBe(expected);
  expect(await isBusy()).toBe(false);
});

test("a change by a shell that never ends it ends", async () => {
  shell("echo begun; exec sleep 600");
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  let code: unknown;
  void host.call("DELETE", `${box}/files?path=/x`).then(({ json }) => (code = json.code));
  await passTime(() => code !== undefined, 50_000);
  expect(code).toBe("backend_unavailable");
  expect(await isBusy()).toBe(false);
});

test("a write to a shell that never reads ends", async () => {
  shell(NEVER_READS);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  let code: unknown;
  const body = Buffer.alloc(4_000_000);
  void host.call("PUT", `${box}/files?path=/x`, { body }).then(
    ({ json }) => (code = json.code),
    () => (code = "cut"),
  );
  await passTime(() => code !== undefined);
  expect(code).toBe("backend_unavailable");
  expect(await isBusy()).toBe(false);
});

test.each([
  ["GET", READS["says a size and no more"]],
  ["GET", "exec sleep 600"],
  ["PUT", NEVER_READS],
])("a client that leaves a %s that hangs leaves nothing busy: %s", async (method, script) => {
  shell(script);
  const leave = new AbortController();
  const signature = await host.sign(method, `${box}/files?path=/x`);
  const body = method === "PUT" ? Buffer.alloc(1_000) : undefined;
  const call = fetch(`http://127.0.0.1:${host.daemon.port}${box}/files?path=/x`, {
    method,
    headers: { "x-sandbar-signature": signature },
    signal: leave.signal,
    ...(body && { body }),
  });
  call.catch(() => {});
  await vi.waitFor(async () => expect(await isBusy()).toBe(true));
  // Past the first line of the script.
  await new Promise((wake) => setTimeout(wake, 300));
  leave.abort();
  await vi.waitFor(async () => expect(await isBusy()).toBe(false), { timeout: 12_000, interval: 50 });
});
