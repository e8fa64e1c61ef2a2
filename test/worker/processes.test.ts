import { beforeEach, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { ContainerProcess } from "../../src/contract/process.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { exec, getProcess, getSandbox, startSandbox } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

let sandboxId: string;

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
  sandboxId = await startSandbox();
});

const processPath = (processId: string, rest = "") => `/v1/sandboxes/${sandboxId}/processes/${processId}${rest}`;
const list = async (query = "") =>
  (await call("GET", `/v1/sandboxes/${sandboxId}/processes${query}`)).json() as Promise<{
    data: ContainerProcess[];
    next_cursor?: string;
  }>;

describe("exec", () => {
  it("hands everything over", async () => {
    const request = {
      command: ["cat"],
      stdin: btoa("x"),
      open_stdin: true,
      stderr: "ignore",
      user: "nobody",
      timeout: 50,
    };
    const { process_id } = await exec(sandboxId, { ...request, workdir: "/tmp", env: { A: "b" } });
    expect(fakeHost.containers.get(sandboxId)!.processes.get(process_id)!.spec).toEqual({
      process_id,
      command: ["cat"],
      stdin: btoa("x"),
      open_stdin: true,
      stderr: "ignore",
      user: "nobody",
      timeout_ms: 50_000,
      workdir: "/tmp",
      env: { A: "b" },
    });
    const terminal = await exec(sandboxId, { command: ["sh", "-c", "stty size"], pty: { cols: 7 } }, "?wait=5");
    expect(terminal).toMatchObject({ returncode: 0, stdout: "24 7\r\n" });
  });

  it("leaves no record of what the host refused to start", async () => {
    const path = `/v1/sandboxes/${sandboxId}/exec`;
    fakeHost.refusal = "unsupported_by_backend";
    const refused = await call("POST", path, { json: { command: ["true"], user: "x" } });
    fakeHost.refusal = undefined;
    expect(await problemOf(refused)).toMatchObject({ status: 422 });
    expect(await list()).toEqual({ data: [] });
  });
});

describe("the list of processes", () => {
  it("has the oldest first, in pages, as they are now", async () => {
    const started: string[] = [];
    for (const command of [["sleep", "60"], ["true"], ["cat"], ["false"], ["sleep", "60"]]) {
      started.push((await exec(sandboxId, { command, open_stdin: true })).process_id);
    }
    const all = (await list()).data;
    expect(all.map(({ process_id }) => process_id)).toEqual(started);
    expect(all.map(({ returncode }) => returncode)).toEqual([null, 0, null, 1, null]);
    const first = await list("?limit=2");
    const second = await list(`?limit=2&cursor=${first.next_cursor}`);
    // What comes and goes meanwhile moves no page.
    await exec(sandboxId, { command: ["true"] });
    const third = await list(`?limit=2&cursor=${second.next_cursor}`);
    const pages = [...first.data, ...second.data, ...third.data];
    expect(pages.map(({ process_id }) => process_id).slice(0, 5)).toEqual(started);
    expect(pages).toHaveLength(6);
    expect(third).not.toHaveProperty("next_cursor");
  });

  it("tells of those that the host has lost", async () => {
    const { process_id } = await exec(sandboxId, { command: ["sleep", "60"] });
    fakeHost.containers.get(sandboxId)!.processes.delete(process_id);
    expect((await list()).data).toMatchObject([{ process_id, returncode: 137, finish_reason: "host_lost" }]);
    expect(await getProcess(sandboxId, process_id)).toMatchObject({ returncode: 137, finish_reason: "host_lost" });
  });
});

describe("a process", () => {
  it.each([
    [["sh", "-c", "exit 3"], {}, { returncode: 3, finish_reason: "exited", timed_out: false }],
    [["sh", "-c", "kill -15 $$"], {}, { returncode: 143, finish_reason: "signaled", signal: "SIGTERM" }],
    [["sleep", "60"], { timeout: 1 }, { returncode: 137, finish_reason: "timeout", timed_out: true }],
  ])("tells how it ended: %j", async (command, more, expected) => {
    const { process_id } = await exec(sandboxId, { command, ...more });
    expect(await getProcess(sandboxId, process_id, "?wait=10")).toMatchObject(expected);
  });

  it("is waited for until it ends or the time is up", async () => {
    const { process_id } = await exec(sandboxId, { command: ["sh", "-c", "sleep 0.4; exit 4"] });
    expect(await getProcess(sandboxId, process_id, "?wait=0.05")).toMatchObject({ returncode: null });
    const asked = Date.now();
    expect(await getProcess(sandboxId, process_id, "?wait=10")).toMatchObject({ returncode: 4 });
    expect(Date.now() - asked).toBeLessThan(5000);
  });

  it("gets signals, is killed, and neither means anything once it has ended", async () => {
    const path = (await exec(sandboxId, { command: ["sleep", "60"] })).process_id;
    expect((await call("POST", processPath(path, "/signal"), { json: { signal: "SIGINT" } })).status).toBe(204);
    expect(await getProcess(sandboxId, path)).toMatchObject({ returncode: 130, signal: "SIGINT" });
    const { process_id } = await exec(sandboxId, { command: ["sleep", "60"] });
    for (let time = 0; time < 2; time += 1) expect((await call("DELETE", processPath(process_id))).status).toBe(204);
    expect(await getProcess(sandboxId, process_id)).toMatchObject({ returncode: 137, finish_reason: "signaled" });
  });

  it("is none that never was, at any of its paths", async () => {
    for (const id of [newId("process"), "main"]) {
      const calls: [string, string, object?][] = [
        ["GET", ""],
        ["DELETE", ""],
        ["POST", "/signal", { json: { signal: "SIGTERM" } }],
        ["GET", "/stdout"],
        ["GET", "/stderr?follow=true"],
        ["GET", "/events"],
        ["POST", "/stdin"],
        ["POST", "/resize", { json: { rows: 24, cols: 80 } }],
      ];
      for (const [method, rest, options] of calls) {
        const problem = await problemOf(await call(method, processPath(id, rest), options));
        expect(problem, `${method} ${rest}`).toMatchObject({ status: 404, code: "process_not_found" });
      }
    }
  });
});

describe("the entrypoint", () => {
  it("is the process main", async () => {
    sandboxId = await startSandbox({ entrypoint: ["sh", "-c", "echo hello; sleep 60"], pty: { rows: 3, cols: 4 } });
    expect(fakeHost.containers.get(sandboxId)!.spec.pty).toEqual({ rows: 3, cols: 4 });
    await exec(sandboxId, { command: ["true"] });
    const { data } = await list();
    expect(data.map(({ process_id }) => process_id)).toEqual(["main", expect.stringMatching(/^pr-/)]);
    const sandbox = await getSandbox(sandboxId);
    expect(data[0]).toMatchObject({ command: ["sh", "-c", "echo hello; sleep 60"], returncode: null });
    expect(Math.abs(Date.parse(data[0]!.created_at) - Date.parse(sandbox.started_at!))).toBeLessThan(50);
    expect(await (await call("GET", processPath("main", "/stdout"))).text()).toBe("hello\r\n");
    expect(await getProcess(sandboxId, "main")).toMatchObject({ stdout_bytes: 7, returncode: null });
  });

  it("is waited for while the sandbox starts", async () => {
    fakeHost.holdsStarts = true;
    const created = await call("POST", "/v1/sandboxes", { json: { entrypoint: ["sh", "-c", "echo early; exit 2"] } });
    sandboxId = ((await created.json()) as { sandbox_id: string }).sandbox_id;
    const output = call("GET", processPath("main", "/stdout?follow=true"));
    await expect.poll(() => fakeHost.heldStarts).toBe(1);
    fakeHost.holdsStarts = false;
    expect(await (await output).text()).toBe("early\n");
  });

  it("is asked for, and with its end the sandbox has ended", async () => {
    sandboxId = await startSandbox({ entrypoint: ["sh", "-c", "sleep 0.3; exit 5"] });
    expect(await getProcess(sandboxId, "main", "?wait=10")).toMatchObject({ returncode: 5, finish_reason: "exited" });
    expect(await getSandbox(sandboxId)).toMatchObject({ state: "finished", returncode: 5, finish_reason: "exited" });
  });

  it("ends by a signal, and its sandbox by it", async () => {
    sandboxId = await startSandbox({ entrypoint: ["sleep", "60"] });
    expect((await call("POST", processPath("main", "/signal"), { json: { signal: "SIGTERM" } })).status).toBe(204);
    expect(await getProcess(sandboxId, "main", "?wait=5")).toMatchObject({
      returncode: 143,
      finish_reason: "signaled",
    });
    expect(await getSandbox(sandboxId)).toMatchObject({
      state: "finished",
      returncode: 143,
      finish_reason: "signaled",
    });
  });
});
