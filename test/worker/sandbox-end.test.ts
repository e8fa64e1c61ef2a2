import { beforeEach, describe, expect, it, vi } from "vitest";
import type { ContainerProcess } from "../../src/contract/process.ts";
import { eventsOf } from "../backends/events-of.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { exec, getProcess, getSandbox, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.isMute = false;
  await connectHost();
});

const processPath = (sandboxId: string, processId: string, rest = "") =>
  `/v1/sandboxes/${sandboxId}/processes/${processId}${rest}`;

/** A sandbox with one process of each kind in it. */
async function withProcesses(create: object = { entrypoint: ["sh", "-c", "echo main; sleep 600"] }) {
  const sandboxId = await startSandbox(create);
  const done = (await exec(sandboxId, { command: ["sh", "-c", "echo done; exit 6"] })).process_id;
  const unseen = (await exec(sandboxId, { command: ["sh", "-c", "sleep 0.3; exit 9"] })).process_id;
  const running = (await exec(sandboxId, { command: ["sh", "-c", "echo so-far; sleep 600"] })).process_id;
  await new Promise((wake) => setTimeout(wake, 350));
  return { sandboxId, done, unseen, running };
}

/** Lets the object notice that its container has ended. */
const notice = (sandboxId: string) => call("POST", `/v1/sandboxes/${sandboxId}/exec`, { json: { command: ["true"] } });

const list = async (sandboxId: string) =>
  ((await (await call("GET", `/v1/sandboxes/${sandboxId}/processes`)).json()) as { data: ContainerProcess[] }).data;

describe("when a sandbox ends", () => {
  it("its processes are told apart: those that ended before from those that it took down", async () => {
    const { sandboxId, done, unseen, running } = await withProcesses();
    await terminate(sandboxId);
    expect(await list(sandboxId)).toMatchObject([
      { process_id: "main", returncode: 137, finish_reason: "sandbox_ended", stdout_bytes: 5 },
      { process_id: done, returncode: 6, finish_reason: "exited" },
      { process_id: unseen, returncode: 9, finish_reason: "exited" },
      { process_id: running, returncode: 137, finish_reason: "sandbox_ended", stdout_bytes: 7 },
    ]);
    const { finished_at } = await getSandbox(sandboxId);
    expect(await getProcess(sandboxId, running)).toMatchObject({ exited_at: finished_at, timed_out: false });
  });

  it.each([
    [{ returncode: 3 }, { returncode: 3, finish_reason: "exited" }],
    [{ returncode: 139 }, { returncode: 139 }],
    [
      { returncode: 137, oom: true },
      { returncode: 137, finish_reason: "oom" },
    ],
    [
      { returncode: 124, deadline: true },
      { returncode: 124, finish_reason: "sandbox_ended" },
    ],
  ])("by itself (%j), main has ended so", async (exit, expected) => {
    const { sandboxId, running } = await withProcesses();
    fakeHost.exit(sandboxId, exit);
    await notice(sandboxId);
    const [sandbox, main] = [await getSandbox(sandboxId), await getProcess(sandboxId, "main")];
    expect(main).toMatchObject(expected);
    expect(main.returncode).toBe(sandbox.returncode);
    if (main.finish_reason !== "sandbox_ended") expect(main.finish_reason).toBe(sandbox.finish_reason);
    expect(await getProcess(sandboxId, running)).toMatchObject({ returncode: 137, finish_reason: "sandbox_ended" });
  });

  it("at its lifetime, main has the sandbox's returncode", async () => {
    const { sandboxId } = await withProcesses({ entrypoint: ["sleep", "600"], timeout: 1 });
    await expect.poll(async () => (await getSandbox(sandboxId)).finish_reason, { timeout: 3000 }).toBe("timeout");
    expect(await getProcess(sandboxId, "main")).toMatchObject({ returncode: 124, finish_reason: "sandbox_ended" });
  });

  it("because its host lost it, nobody knows how they ended", async () => {
    const { sandboxId, done, running } = await withProcesses();
    fakeHost.forget(sandboxId);
    await notice(sandboxId);
    expect(await getSandbox(sandboxId)).toMatchObject({ finish_reason: "host_lost" });
    for (const id of [running, "main"]) {
      expect(await getProcess(sandboxId, id)).toMatchObject({ returncode: 137, finish_reason: "host_lost" });
    }
    expect(await getProcess(sandboxId, done)).toMatchObject({ returncode: 6, finish_reason: "exited" });
  });

  it("while one is waited for, the wait is over", async () => {
    const { sandboxId, running } = await withProcesses();
    const waited = getProcess(sandboxId, running, "?wait=60");
    await terminate(sandboxId);
    expect(await waited).toMatchObject({ returncode: 137, finish_reason: "sandbox_ended" });
  });

  it("while its host is away, the end is told all the same, and does not change later", async () => {
    const { sandboxId, running } = await withProcesses();
    fakeHost.isDown = true;
    await terminate(sandboxId);
    const told = await getProcess(sandboxId, running);
    expect(told).toMatchObject({ returncode: 137, finish_reason: "sandbox_ended" });
    fakeHost.isDown = false;
    await expect.poll(() => fakeHost.containers.has(sandboxId), { timeout: 8000 }).toBe(false);
    expect(await getProcess(sandboxId, running)).toMatchObject({ returncode: 137, finish_reason: "sandbox_ended" });
  });
});

describe("an end that was told", () => {
  it("stays, whatever the host says later", async () => {
    const sandboxId = await startSandbox();
    const { process_id } = await exec(sandboxId, { command: ["sh", "-c", "sleep 0.5; exit 9"] });
    const waited = getProcess(sandboxId, process_id, "?wait=60");
    await new Promise((wake) => setTimeout(wake, 100));
    fakeHost.isDown = true;
    await terminate(sandboxId);
    const told = await getProcess(sandboxId, process_id);
    expect(told).toMatchObject({ returncode: 137, finish_reason: "sandbox_ended" });
    expect(await waited).toEqual(told);
    expect(await getProcess(sandboxId, process_id)).toEqual(told);
  });
});

describe("after the end of a sandbox", () => {
  it("output and events are read from the host, as before", async () => {
    const { sandboxId, done, running } = await withProcesses();
    await terminate(sandboxId);
    const read = async (id: string, rest: string) => (await call("GET", processPath(sandboxId, id, rest))).text();
    expect(await read(done, "/stdout")).toBe("done\n");
    expect(await read(running, "/stdout?offset=3&follow=true")).toBe("far\n");
    expect(await read("main", "/stdout?follow=true")).toBe("main\n");
    const events = eventsOf(await read(running, "/events"));
    expect(events.map(({ event }) => event)).toEqual(["stdout", "exit"]);
    expect(events[1]!.data).toMatchObject({ finish_reason: "sandbox_ended", stdout_bytes: 7 });
  });

  it("what the host no longer has is gone, but for its end", async () => {
    const { sandboxId, done } = await withProcesses();
    await terminate(sandboxId);
    fakeHost.forget(sandboxId);
    const gone = await problemOf(await call("GET", processPath(sandboxId, done, "/stdout?offset=2")));
    expect(gone).toMatchObject({ status: 410, code: "output_expired", oldest_offset: 5 });
    const end = await call("GET", processPath(sandboxId, done, "/stdout?offset=5&follow=true"));
    expect([end.status, await end.text()]).toEqual([200, ""]);
    expect((await call("GET", processPath(sandboxId, done, "/stderr"))).status).toBe(200);
    const missing = await problemOf(await call("GET", processPath(sandboxId, done, "/events?last_event_id=4.0")));
    expect(missing).toMatchObject({ status: 410, code: "output_expired", oldest_offset: 5 });
    const events = await (await call("GET", processPath(sandboxId, done, "/events?last_event_id=5.0"))).text();
    expect(eventsOf(events)).toMatchObject([
      { id: "5.0", event: "exit", data: { returncode: 6, finish_reason: "exited", stdout_bytes: 5 } },
    ]);
  });

  it("a host that is away may come back with it, but not for ever", async () => {
    const { sandboxId, done } = await withProcesses();
    await terminate(sandboxId);
    fakeHost.isDown = true;
    const read = () => call("GET", processPath(sandboxId, done, "/stdout"));
    expect(await problemOf(await read())).toMatchObject({ status: 503, code: "backend_unavailable" });
    expect(await (await call("GET", processPath(sandboxId, done, "/stdout?offset=5"))).text()).toBe("");
    const later = Date.now() + 3_700_000;
    vi.spyOn(Date, "now").mockReturnValue(later);
    try {
      expect(await problemOf(await read())).toMatchObject({ status: 410, code: "output_expired", oldest_offset: 5 });
    } finally {
      vi.restoreAllMocks();
    }
  });

  it("nothing more is asked of its processes", async () => {
    const { sandboxId, running } = await withProcesses();
    await terminate(sandboxId);
    const calls: [string, string, object?][] = [
      ["POST", `/v1/sandboxes/${sandboxId}/exec`, { json: { command: ["true"] } }],
      ["POST", processPath(sandboxId, running, "/stdin"), { body: "x" }],
      ["POST", processPath(sandboxId, running, "/signal"), { json: { signal: "SIGTERM" } }],
      ["POST", processPath(sandboxId, running, "/resize"), { json: { rows: 24, cols: 80 } }],
      ["DELETE", processPath(sandboxId, running)],
    ];
    for (const [method, path, options] of calls) {
      expect(await problemOf(await call(method, path, options)), path).toMatchObject({
        status: 409,
        code: "sandbox_ended",
      });
    }
  });
});

describe("in a live sandbox", () => {
  it("a process that the host has lost is told so wherever it is asked for", async () => {
    const { sandboxId, running } = await withProcesses();
    fakeHost.containers.get(sandboxId)!.processes.delete(running);
    const gone = await problemOf(await call("GET", processPath(sandboxId, running, "/events")));
    expect(gone).toMatchObject({ status: 410, code: "output_expired", oldest_offset: 7 });
    const rest = await call("GET", processPath(sandboxId, running, "/events?last_event_id=7.0"));
    expect(eventsOf(await rest.text())).toMatchObject([
      { event: "exit", data: { returncode: 137, finish_reason: "host_lost" } },
    ]);
    expect(await getProcess(sandboxId, running)).toMatchObject({ finish_reason: "host_lost" });
    const ended = await problemOf(await call("POST", processPath(sandboxId, running, "/stdin"), { body: "x" }));
    expect(ended).toMatchObject({ status: 409, code: "process_ended" });
  });
});
