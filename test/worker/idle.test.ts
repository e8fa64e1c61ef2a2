import { runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { call, connectHost } from "./client.ts";
import { exec, getSandbox, objectOf, startSandbox } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
});

const stateOf = async (sandboxId: string) => (await getSandbox(sandboxId)).state;
const finishReasonOf = async (sandboxId: string) => (await getSandbox(sandboxId)).finish_reason;
const wait = (ms: number) => new Promise((wake) => setTimeout(wake, ms));
const IDLE = { idle_timeout: 1 };

/** What the object wrote to its SQLite since it was asked first. */
const rowsWritten = (sandboxId: string) =>
  runInDurableObject(
    objectOf(sandboxId),
    (_, { storage }) => storage.sql.exec("SELECT total_changes() AS n").one()["n"],
  );

describe("an idle sandbox", () => {
  it("is one whose entrypoint works, and that is only looked at", async () => {
    const sandboxId = await startSandbox({ ...IDLE, entrypoint: ["sleep", "600"] });
    const { process_id } = await exec(sandboxId, { command: ["true"] });
    const follower = call("GET", `/v1/sandboxes/${sandboxId}/processes/main/stdout?follow=true`);
    const looks = ["", "/processes", "/processes/main", `/processes/${process_id}`, `/processes/${process_id}/stdout`];
    const startedAt = Date.now();
    while ((await stateOf(sandboxId)) === "ready" && Date.now() - startedAt < 5000) {
      for (const look of looks) expect((await call("GET", `/v1/sandboxes/${sandboxId}${look}`)).status).toBe(200);
      await wait(50);
    }
    expect(await finishReasonOf(sandboxId)).toBe("idle_timeout");
    expect(await (await follower).text()).toBe("");
  });

  it("is not one with a process of exec", async () => {
    const sandboxId = await startSandbox(IDLE);
    const { process_id } = await exec(sandboxId, { command: ["sleep", "60"] });
    await wait(2500);
    expect(await stateOf(sandboxId)).toBe("ready");
    await call("DELETE", `/v1/sandboxes/${sandboxId}/processes/${process_id}`);
    await expect.poll(() => finishReasonOf(sandboxId), { timeout: 4000 }).toBe("idle_timeout");
  });

  it.each(["stdin", "files"])("is not one that takes in %s", async (what) => {
    const sandboxId = await startSandbox({ ...IDLE, entrypoint: ["cat"], pty: {} });
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const base = `/v1/sandboxes/${sandboxId}`;
    const upload =
      what === "stdin"
        ? call("POST", `${base}/processes/main/stdin`, { body: readable })
        : call("PUT", `${base}/files?path=/f`, { body: readable });
    const writer = writable.getWriter();
    await writer.write(new TextEncoder().encode("x"));
    await wait(2500);
    expect(await stateOf(sandboxId)).toBe("ready");
    await writer.close();
    expect((await upload).ok).toBe(true);
    await expect.poll(() => finishReasonOf(sandboxId), { timeout: 4000 }).toBe("idle_timeout");
  });
});

describe("an exec that is waited for", () => {
  it("writes its record before the start and after the end, and nothing else", async () => {
    const sandboxId = await startSandbox();
    await exec(sandboxId, { command: ["true"] }, "?wait=5");
    const before = Number(await rowsWritten(sandboxId));
    for (let time = 0; time < 10; time += 1) await exec(sandboxId, { command: ["true"] }, "?wait=5");
    expect(Number(await rowsWritten(sandboxId)) - before).toBe(20);
  });

  it("puts the idle time off, and does not write that down each time", async () => {
    const sandboxId = await startSandbox({ idle_timeout: 600 });
    await exec(sandboxId, { command: ["true"] }, "?wait=5");
    const before = Number(await rowsWritten(sandboxId));
    const [first] = [(await getSandbox(sandboxId)).idle_expires_at!];
    for (let time = 0; time < 10; time += 1) await exec(sandboxId, { command: ["true"] }, "?wait=5");
    expect(Number(await rowsWritten(sandboxId)) - before).toBeLessThanOrEqual(22);
    await wait(1100);
    await exec(sandboxId, { command: ["true"] });
    expect(Date.parse((await getSandbox(sandboxId)).idle_expires_at!)).toBeGreaterThan(Date.parse(first) + 1000);
  });
});
