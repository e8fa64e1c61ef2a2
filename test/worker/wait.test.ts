import { abortAllDurableObjects } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { call, connectHost, newKey, problemOf } from "./client.ts";
import { exec, getSandbox, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.holdsStarts = false;
  await connectHost();
});

const wait = (ms: number) => new Promise((wake) => setTimeout(wake, ms));
const create = async (json: object = {}) =>
  ((await (await call("POST", "/v1/sandboxes", { json })).json()) as Sandbox).sandbox_id;
const waitFor = async (sandboxId: string, query: string) => {
  const startedAt = Date.now();
  const sandbox = (await (await call("GET", `/v1/sandboxes/${sandboxId}/wait?${query}`)).json()) as Sandbox;
  return { sandbox, tookMs: Date.now() - startedAt };
};

describe("waiting for a sandbox", () => {
  it("answers when it is ready, and at once when it is so already", async () => {
    fakeHost.holdsStarts = true;
    const sandboxId = await create();
    const waiting = waitFor(sandboxId, "until=ready");
    await wait(300);
    fakeHost.holdsStarts = false;
    const { sandbox, tookMs } = await waiting;
    expect(sandbox.state).toBe("ready");
    expect(tookMs).toBeGreaterThan(290);
    expect((await waitFor(sandboxId, "until=ready")).tookMs).toBeLessThan(250);
  });

  it("answers when it has ended, whoever ended it, also who waits for ready", async () => {
    const sandboxId = await startSandbox({ readiness_probe: { tcp: { port: 1 } } }).catch(() => undefined);
    expect(sandboxId).toBeUndefined();
    const unready = await create({ readiness_probe: { tcp: { port: 1 } } });
    const [ready, ended] = [waitFor(unready, "until=ready"), waitFor(unready, "")];
    await wait(200);
    await terminate(unready);
    for (const { sandbox } of await Promise.all([ready, ended])) {
      expect(sandbox).toMatchObject({ state: "terminated", finish_reason: "terminated", returncode: 137 });
    }
    expect((await waitFor(unready, "until=ready")).sandbox.state).toBe("terminated");
  });

  it("answers with the sandbox as it is when the time is up", async () => {
    const sandboxId = await startSandbox();
    const { sandbox, tookMs } = await waitFor(sandboxId, "timeout=0.4");
    expect(sandbox.state).toBe("ready");
    expect(tookMs).toBeGreaterThanOrEqual(390);
    expect((await waitFor(sandboxId, "timeout=0")).sandbox.state).toBe("ready");
  });

  it("is no activity", async () => {
    const sandboxId = await startSandbox({ idle_timeout: 1 });
    const { sandbox, tookMs } = await waitFor(sandboxId, "timeout=10");
    expect(sandbox.finish_reason).toBe("idle_timeout");
    expect(tookMs).toBeLessThan(3000);
  });

  it("goes on when the object is lost meanwhile", async () => {
    const sandboxId = await startSandbox();
    const waiting = waitFor(sandboxId, "timeout=10");
    await wait(200);
    await abortAllDurableObjects();
    await terminate(sandboxId);
    expect((await waiting).sandbox.finish_reason).toBe("terminated");
  });

  it("is for those who may read it", async () => {
    const sandboxId = await startSandbox();
    const { key } = await newKey(["read"], "elsewhere");
    const foreign = await call("GET", `/v1/sandboxes/${sandboxId}/wait`, { key });
    expect(await problemOf(foreign)).toMatchObject({ status: 404, code: "sandbox_not_found" });
  });
});

describe("a readiness probe", () => {
  const probed = (exit: number | string) => ({
    readiness_probe: { exec: { command: ["sh", "-c", `exit ${exit}`] }, interval_ms: 20 },
  });

  it("makes the sandbox ready when it succeeds, not before", async () => {
    const tcp = await create({ readiness_probe: { tcp: { port: 8080 }, interval_ms: 20 } });
    const [succeeding, failing] = [await create(probed(0)), await create(probed(1))];
    expect((await waitFor(succeeding, "until=ready&timeout=5")).sandbox.state).toBe("ready");
    await wait(300);
    for (const id of [tcp, failing]) expect((await getSandbox(id)).state).toBe("started");
    await exec(tcp, { command: ["serve", "8080"] });
    const { sandbox } = await waitFor(tcp, "until=ready&timeout=5");
    expect(sandbox.state).toBe("ready");
    expect(Date.parse(sandbox.ready_at!)).toBeGreaterThan(Date.parse(sandbox.started_at!) + 200);
  });

  it("that never succeeds never kills, is no activity, and leaves no process behind", async () => {
    const sandboxId = await create({ ...probed(1), idle_timeout: 1 });
    const lasting = await create(probed(1));
    expect((await waitFor(sandboxId, "timeout=5")).sandbox.finish_reason).toBe("idle_timeout");
    expect((await getSandbox(lasting)).state).toBe("started");
    const { data } = (await (await call("GET", `/v1/sandboxes/${lasting}/processes`)).json()) as { data: unknown[] };
    expect(data).toEqual([]);
    expect(fakeHost.containers.get(lasting)!.processes.size).toBeLessThanOrEqual(1);
    expect((await exec(lasting, { command: ["echo", "works"] }, "?wait=5")).stdout).toBe("works\n");
  });
});
