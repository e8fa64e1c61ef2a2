import { abortAllDurableObjects, env, evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { SandboxCreate } from "../../src/contract/sandbox.ts";
import { reportHost } from "./client.ts";
import { SandboxCatalog } from "../../src/catalog/sandboxes.ts";
import { reconcile } from "../../src/placement/reconcile.ts";
import { openSandbox } from "../../src/api/sandbox-client.ts";
import type { SandboxRpc } from "../../src/sandbox/rpc.ts";
import { codeOf } from "../backends/under-test.ts";
import { fakeHost } from "./worker.ts";

const HOST_ID = "ho-aaaaaaaaaaaaaaaaaaaaaa";
const scope = { environment: "main" };

const INFO = {
  host_id: HOST_ID,
  version: "1",
  runtime: "docker" as const,
  default_image: "fake",
  capabilities: { cpu_limit: true, memory_limit: true, gpu: false, raw_tcp: true, exec_user: true, pty: true },
};

const objectOf = (sandboxId: string) => env.SANDBOXES.get(env.SANDBOXES.idFromName(sandboxId));
const stubOf = (sandboxId: string) => openSandbox(env, sandboxId);

async function create(create: SandboxCreate = {}) {
  const sandboxId = newId("sandbox");
  const stub = stubOf(sandboxId);
  await stub.create({
    ...scope,
    sandboxId,
    create: { image: "fake", ...create },
    backend: "docker",
    place: undefined,
  });
  return { sandboxId, stub };
}

async function untilState(stub: SandboxRpc, ...states: string[]) {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const sandbox = await stub.describe(scope);
    if (states.includes(sandbox.state)) return sandbox;
    await new Promise((wake) => setTimeout(wake, 25));
  }
  throw new Error(`never ${states.join(" or ")}: ${JSON.stringify(await stub.describe(scope))}`);
}

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.holdsStarts = false;
  await reportHost({ url: "http://127.0.0.1:9", info: INFO, containers: [] });
});

describe("the sandbox object", () => {
  it("goes from created to ready, and the catalog follows", async () => {
    const { sandboxId, stub } = await create({ tags: { team: "a" } });
    const sandbox = await untilState(stub, "ready");
    expect(sandbox).toMatchObject({ state: "ready", image: "fake", timeout: 300, tags: { team: "a" } });
    expect(Date.parse(sandbox.expires_at!) - Date.parse(sandbox.started_at!)).toBe(300_000);
    await expect
      .poll(async () => {
        const page = await new SandboxCatalog(env.DB).list(
          { environment: "main", tags: [{ key: "team", value: "a" }] },
          { limit: 10, cursor: undefined },
        );
        return page.data.find((row) => row.sandbox_id === sandboxId)?.state;
      })
      .toBe("ready");
  });

  it("hides itself from other environments", async () => {
    const { stub } = await create();
    const other = { environment: "other" };
    expect(await codeOf(stub.describe(other))).toBe("sandbox_not_found");
    expect(await codeOf(stub.terminate(other))).toBe("sandbox_not_found");
    expect(await codeOf(stub.exec(other, { command: ["true"] }, 0))).toBe("sandbox_not_found");
    expect(await codeOf(stub.readFile(other, "/etc/os-release"))).toBe("sandbox_not_found");
    expect(await codeOf(stubOf(newId("sandbox")).describe(scope))).toBe("sandbox_not_found");
  });

  it("lets an exec sent right after create wait for the start", async () => {
    fakeHost.holdsStarts = true;
    const { stub } = await create();
    const exec = stub.exec(scope, { command: ["echo", "hi"] }, 5000);
    await expect.poll(() => fakeHost.heldStarts).toBe(1);
    expect((await stub.describe(scope)).state).toBe("scheduled");
    fakeHost.holdsStarts = false;
    expect((await exec).process).toMatchObject({ returncode: 0, stdout_bytes: 3 });
  });

  it("lets a terminate during the start win and leaves nothing", async () => {
    fakeHost.holdsStarts = true;
    const { sandboxId, stub } = await create();
    await expect.poll(() => fakeHost.heldStarts).toBe(1);
    await stub.terminate(scope);
    fakeHost.holdsStarts = false;
    expect(await stub.describe(scope)).toMatchObject({
      state: "terminated",
      finish_reason: "terminated",
      returncode: 137,
    });
    await expect.poll(() => fakeHost.containers.has(sandboxId)).toBe(false);
    expect(await codeOf(stub.exec(scope, { command: ["true"] }, 0))).toBe("sandbox_ended");
  });

  it("ends start_failed with the reason", async () => {
    const { stub } = await create({ image: "missing" });
    const sandbox = await untilState(stub, "terminated");
    expect(sandbox).toMatchObject({ finish_reason: "start_failed", error: "The image missing cannot be pulled." });
    expect(sandbox.returncode).toBeUndefined();
  });

  it("keeps trying while the host is down and starts when it is back", async () => {
    fakeHost.isDown = true;
    const { stub } = await create();
    await new Promise((wake) => setTimeout(wake, 700));
    expect(["created", "scheduled"]).toContain((await stub.describe(scope)).state);
    fakeHost.isDown = false;
    await untilState(stub, "ready");
  });

  it("takes up a start that an eviction cut off, without a second container", async () => {
    fakeHost.isDown = true;
    const { sandboxId } = await create();
    await abortAllDurableObjects();
    fakeHost.isDown = false;
    const again = stubOf(sandboxId);
    await runDurableObjectAlarm(objectOf(sandboxId));
    await untilState(again, "ready");
    expect(fakeHost.launches.get(sandboxId)).toBe(1);
  });

  it("ends at its lifetime and at its idle time, each with its own reason", async () => {
    const short = await create({ timeout: 1 });
    const idle = await create({ idle_timeout: 1 });
    await Promise.all([untilState(short.stub, "ready"), untilState(idle.stub, "ready")]);
    expect(await untilState(short.stub, "terminated")).toMatchObject({ finish_reason: "timeout", returncode: 124 });
    expect(await untilState(idle.stub, "terminated")).toMatchObject({ finish_reason: "idle_timeout", returncode: 137 });
    await expect.poll(() => fakeHost.containers.has(short.sandboxId)).toBe(false);
    await expect.poll(() => fakeHost.containers.has(idle.sandboxId)).toBe(false);
  });

  it("does not idle while an exec runs", async () => {
    const { stub } = await create({ idle_timeout: 1 });
    const { process } = await stub.exec(scope, { command: ["sleep", "60"] }, 0);
    await new Promise((wake) => setTimeout(wake, 2500));
    expect((await stub.describe(scope)).state).toBe("ready");
    await stub.signal(scope, process.process_id, "SIGKILL");
    expect(await untilState(stub, "terminated")).toMatchObject({ finish_reason: "idle_timeout" });
  });

  it.each([
    [{ returncode: 3 }, { state: "finished", finish_reason: "exited", returncode: 3 }],
    [{ returncode: 143 }, { state: "finished", finish_reason: "signaled", returncode: 143 }],
    [
      { returncode: 137, oom: true },
      { state: "finished", finish_reason: "oom", returncode: 137 },
    ],
    [
      { returncode: 124, deadline: true },
      { state: "terminated", finish_reason: "timeout", returncode: 124 },
    ],
  ])("reads the end %j from the host", async (exit, expected) => {
    const { sandboxId, stub } = await create();
    await untilState(stub, "ready");
    fakeHost.exit(sandboxId, exit);
    const report = {
      url: "http://127.0.0.1:9",
      info: INFO,
      containers: [{ sandbox_id: sandboxId, generation: 1, running: false }],
    };
    await expect
      .poll(async () => {
        await reconcile(env, report);
        return stub.describe(scope);
      })
      .toMatchObject(expected);
  });

  it("is host_lost when its container is gone, and orders the reaping of containers it does not claim", async () => {
    const { sandboxId, stub } = await create();
    await untilState(stub, "ready");
    const unknown = { sandbox_id: newId("sandbox"), generation: 1, running: true };
    fakeHost.containers.delete(sandboxId);
    await expect
      .poll(async () => {
        const orders = await reconcile(env, { url: "http://127.0.0.1:9", info: INFO, containers: [unknown] });
        expect(orders.reap).toEqual([{ sandbox_id: unknown.sandbox_id, generation: 1 }]);
        return stub.describe(scope);
      })
      .toMatchObject({ state: "terminated", finish_reason: "host_lost" });
  });

  it("keeps its record over an eviction", async () => {
    const { sandboxId, stub } = await create({ name: "kept" });
    const { process } = await stub.exec(scope, { command: ["echo", "kept"] }, 5000);
    const before = await stub.describe(scope);
    await evictDurableObject(objectOf(sandboxId));
    expect(await stub.describe(scope)).toEqual(before);
    expect(await stub.getProcess(scope, process.process_id, 0)).toMatchObject({
      returncode: 0,
      command: ["echo", "kept"],
    });
  });

  it("writes what the catalog missed when D1 answers again", async () => {
    const { sandboxId, stub } = await create();
    await untilState(stub, "ready");
    await env.DB.exec("ALTER TABLE sandboxes RENAME TO sandboxes_away");
    try {
      await stub.terminate(scope);
      expect((await stub.describe(scope)).state).toBe("terminated");
    } finally {
      await env.DB.exec("ALTER TABLE sandboxes_away RENAME TO sandboxes");
    }
    await expect
      .poll(() => env.DB.prepare("SELECT state FROM sandboxes WHERE sandbox_id = ?").bind(sandboxId).first("state"), {
        timeout: 8000,
      })
      .toBe("terminated");
  });
});
