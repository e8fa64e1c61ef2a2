import { env, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { limitsOf } from "../../src/contract/limits.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { exec, getSandbox, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

const HOUR_MS = 3_600_000;
const WEEK_MS = 7 * 24 * HOUR_MS;

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
});

/** Lets the alarm go off as if so much time had passed. */
async function later(sandboxId: string, ms: number): Promise<void> {
  const then = Date.now() + ms;
  vi.spyOn(Date, "now").mockReturnValue(then);
  try {
    await runDurableObjectAlarm(objectOf(sandboxId));
  } finally {
    vi.restoreAllMocks();
  }
}

const storageOf = (sandboxId: string) =>
  runInDurableObject(objectOf(sandboxId), async (_, { storage }) => ({
    tables: storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf%' ESCAPE '\\'").toArray()
      .length,
    bytes: storage.sql.databaseSize,
    alarm: await storage.getAlarm(),
  }));
const rowsOf = async (sandboxId: string) => {
  const counts = ["sandboxes", "sandbox_tags", "sandbox_names"].map((table) =>
    env.DB.prepare(`SELECT count(*) AS n FROM ${table} WHERE sandbox_id = ?`).bind(sandboxId).first<number>("n"),
  );
  return Promise.all(counts);
};

describe("a sandbox that has ended", () => {
  it("stays readable for a week, and then goes for good: its object's storage and its rows", async () => {
    const sandboxId = await startSandbox({ name: "remembered", tags: { a: "1" } });
    await exec(sandboxId, { command: ["echo", "x"] }, "?wait=5");
    await terminate(sandboxId);
    await later(sandboxId, HOUR_MS + 1000);
    await later(sandboxId, WEEK_MS - 60_000);
    expect((await getSandbox(sandboxId)).finish_reason).toBe("terminated");
    expect(await rowsOf(sandboxId)).toEqual([1, 1, 0]);
    await later(sandboxId, WEEK_MS + 60_000);
    for (const path of ["", "/processes", "/events", "/wait"]) {
      const gone = await problemOf(await call("GET", `/v1/sandboxes/${sandboxId}${path}`));
      expect(gone).toMatchObject({ status: 404, code: "sandbox_not_found" });
    }
    expect(await rowsOf(sandboxId)).toEqual([0, 0, 0]);
    expect(await storageOf(sandboxId)).toMatchObject({ tables: 0, alarm: null });
    expect((await terminate(sandboxId)).status).toBe(404);
  });

  it("is not forgotten before the catalog has forgotten it", async () => {
    const sandboxId = await startSandbox();
    await terminate(sandboxId);
    await env.DB.exec("ALTER TABLE sandbox_tags RENAME TO sandbox_tags_away");
    try {
      await later(sandboxId, WEEK_MS + 60_000);
      expect((await getSandbox(sandboxId)).state).toBe("terminated");
    } finally {
      await env.DB.exec("ALTER TABLE sandbox_tags_away RENAME TO sandbox_tags");
    }
    await later(sandboxId, WEEK_MS + 120_000);
    expect((await call("GET", `/v1/sandboxes/${sandboxId}`)).status).toBe(404);
    expect(await rowsOf(sandboxId)).toEqual([0, 0, 0]);
  });

  it("comes back by no change that is made while it goes", async () => {
    const sandboxId = await startSandbox();
    await terminate(sandboxId);
    await expect.poll(() => fakeHost.containers.has(sandboxId)).toBe(false);
    const changes = (async () => {
      const statuses = new Set<number>();
      for (let count = 0; count < 60; count += 1) {
        const json = { tags: { count: String(count) } };
        statuses.add((await call("PATCH", `/v1/sandboxes/${sandboxId}`, { json })).status);
      }
      return [...statuses];
    })();
    await new Promise((wake) => setTimeout(wake, 20));
    await later(sandboxId, WEEK_MS + 60_000);
    for (const status of await changes) expect([200, 404]).toContain(status);
    await expect
      .poll(async () => [(await call("GET", `/v1/sandboxes/${sandboxId}`)).status, ...(await rowsOf(sandboxId))], {
        timeout: 8000,
      })
      .toEqual([404, 0, 0, 0]);
  });

  it("takes less than 64 KiB, whatever ran in it", async () => {
    const sandboxId = await startSandbox({ tags: { a: "1" }, env: { A: "x".repeat(1000) } });
    const argument = "x".repeat(500);
    for (let round = 0; round < 30; round += 1) {
      await Promise.all(Array.from({ length: 10 }, () => exec(sandboxId, { command: ["echo", argument] }, "?wait=5")));
    }
    const before = await storageOf(sandboxId);
    await terminate(sandboxId);
    await later(sandboxId, HOUR_MS + 1000);
    const after = await storageOf(sandboxId);
    console.log(
      `storage of an ended sandbox with 300 processes: ${before.bytes} bytes before, ${after.bytes} after an hour`,
    );
    expect(after.bytes).toBeLessThan(65_536);
    const { data } = (await (await call("GET", `/v1/sandboxes/${sandboxId}/processes`)).json()) as { data: unknown[] };
    expect(data.length).toBeGreaterThan(10);
  });
});

describe("an object that no sandbox was ever made in", () => {
  it("keeps nothing of having been asked", async () => {
    const sandboxId = newId("sandbox");
    for (const path of ["", "/processes", "/events?follow=false", "/wait?timeout=0"]) {
      expect((await call("GET", `/v1/sandboxes/${sandboxId}${path}`)).status).toBe(404);
    }
    expect(await storageOf(sandboxId)).toMatchObject({ tables: 0, alarm: null });
  });
});

describe("what a deployment may set", () => {
  it("is whole seconds, and else the default counts, and it is said so", () => {
    const said = vi.spyOn(console, "error").mockReturnValue(undefined);
    expect(limitsOf({})).toEqual({ keptMs: WEEK_MS, hostLostAfterMs: 300_000, schedulingMs: 30_000 });
    expect(limitsOf({ RETENTION_SECONDS: "60", HOST_LOST_SECONDS: "30", SCHEDULING_SECONDS: "1" })).toEqual({
      keptMs: 60_000,
      hostLostAfterMs: 30_000,
      schedulingMs: 1000,
    });
    expect(said).not.toHaveBeenCalled();
    expect(limitsOf({ RETENTION_SECONDS: "7 days" })).toMatchObject({ keptMs: WEEK_MS });
    expect(said).toHaveBeenCalledOnce();
    vi.restoreAllMocks();
  });
});
