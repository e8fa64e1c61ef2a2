import { abortAllDurableObjects } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import type { SandboxEvent } from "../../src/contract/sandbox-event.ts";
import { eventsOf } from "../backends/events-of.ts";
import { call, connectHost, HOST_ID, newKey, problemOf } from "./client.ts";
import { getSandbox, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.holdsStarts = false;
  await connectHost();
});

const open = (sandboxId: string, query = "", headers: Record<string, string> = {}) =>
  call("GET", `/v1/sandboxes/${sandboxId}/events${query}`, { headers });
const read = async (sandboxId: string, query = "", headers: Record<string, string> = {}) =>
  eventsOf(await (await open(sandboxId, query, headers)).text()) as { id: string; event: string; data: SandboxEvent }[];
const wait = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

describe("the events of a sandbox", () => {
  it("are every transition, with its time and reason, and what clients changed", async () => {
    const sandboxId = await startSandbox({ timeout: 600 });
    await call("PATCH", `/v1/sandboxes/${sandboxId}`, { json: { timeout: 700, tags: { a: "1" } } });
    await call("PATCH", `/v1/sandboxes/${sandboxId}`, { json: { timeout: 700 } });
    await terminate(sandboxId);
    await call("PATCH", `/v1/sandboxes/${sandboxId}`, { json: { tags: { late: "1" } } });
    const events = await read(sandboxId);
    const sandbox = await getSandbox(sandboxId);
    expect(events.map(({ id, event }) => `${id} ${event}`)).toEqual([
      "1 created",
      "2 scheduled",
      "3 started",
      "4 ready",
      "5 updated",
      "6 terminated",
    ]);
    for (const { event, data } of events) expect(data.type).toBe(event);
    const [created, scheduled, started, ready, updated, ended] = events.map(({ data }) => data);
    expect(scheduled).toMatchObject({ backend: "docker", host_id: HOST_ID, generation: 1 });
    expect(updated).toMatchObject({ fields: ["tags", "timeout"], timeout: 700 });
    expect(ended).toMatchObject({ finish_reason: "terminated", returncode: 137, at: sandbox.finished_at });
    expect([created!.at, started!.at, ready!.at]).toEqual([sandbox.created_at, sandbox.started_at, sandbox.ready_at]);
  });

  it("tell why nothing ever started, and each place that was tried", async () => {
    const response = await call("POST", "/v1/sandboxes", { json: { image: "missing" } });
    const { sandbox_id } = (await response.json()) as { sandbox_id: string };
    const events = await read(sandbox_id);
    expect(events.map(({ event }) => event)).toEqual(["created", "scheduled", "terminated"]);
    expect(events.at(-1)!.data).toMatchObject({
      finish_reason: "start_failed",
      error: expect.stringContaining("missing"),
    });
    expect(events.at(-1)!.data).not.toHaveProperty("returncode");
  });

  it("come as they happen, until the end, and over the loss of the object", async () => {
    const sandboxId = await startSandbox();
    const following = open(sandboxId, "?last_event_id=4");
    const text = following.then((response) => response.text());
    await wait(200);
    await abortAllDurableObjects();
    await call("PATCH", `/v1/sandboxes/${sandboxId}`, { json: { tags: { a: "1" } } });
    await wait(100);
    await terminate(sandboxId);
    expect(eventsOf(await text).map(({ id, event }) => `${id} ${event}`)).toEqual(["5 updated", "6 terminated"]);
  });

  it("go on behind the one that arrived last, by header or query", async () => {
    const sandboxId = await startSandbox();
    const ids = async (query: string, headers = {}) => (await read(sandboxId, query, headers)).map(({ id }) => id);
    expect(await ids("?follow=false")).toEqual(["1", "2", "3", "4"]);
    expect(await ids("?follow=false&last_event_id=2")).toEqual(["3", "4"]);
    expect(await ids("?follow=false&last_event_id=2", { "last-event-id": "3" })).toEqual(["4"]);
    expect(await ids("?follow=false&last_event_id=9")).toEqual([]);
  });

  it("keep every transition, however often the sandbox is changed", async () => {
    const sandboxId = await startSandbox();
    for (let count = 0; count < 260; count += 1) {
      await call("PATCH", `/v1/sandboxes/${sandboxId}`, { json: { tags: { count: String(count) } } });
    }
    await terminate(sandboxId);
    const events = await read(sandboxId);
    expect(events).toHaveLength(5 + 250);
    expect(events.slice(0, 4).map(({ id }) => id)).toEqual(["1", "2", "3", "4"]);
    expect(events.at(-1)).toMatchObject({ id: "265", event: "terminated" });
  });

  it("are no activity, and for those who may read the sandbox", async () => {
    const sandboxId = await startSandbox({ idle_timeout: 1 });
    const { key } = await newKey(["read"], "elsewhere");
    const foreign = await call("GET", `/v1/sandboxes/${sandboxId}/events`, { key });
    expect(await problemOf(foreign)).toMatchObject({ status: 404, code: "sandbox_not_found" });
    expect((await read(sandboxId)).at(-1)!.data).toMatchObject({ finish_reason: "idle_timeout" });
  });
});
