import { beforeEach, describe, expect, it } from "vitest";
import type { ContainerProcess } from "../../src/contract/process.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { startSandbox } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

let sandboxId: string;

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
  sandboxId = await startSandbox();
});

const exec = (json: object, key?: string, query = "?wait=5") =>
  call("POST", `/v1/sandboxes/${sandboxId}/exec${query}`, {
    json,
    ...(key !== undefined && { headers: { "idempotency-key": key } }),
  });
const running = () => fakeHost.containers.get(sandboxId)!.processes.size;
const echo = { command: ["echo", "once"] };

describe("an exec with an idempotency key", () => {
  it("starts one process, however often and at once it is asked for", async () => {
    const answers = await Promise.all([exec(echo, "k"), exec(echo, "k"), exec(echo, "k")]);
    const processes = (await Promise.all(answers.map((answer) => answer.json()))) as ContainerProcess[];
    expect(new Set(processes.map(({ process_id }) => process_id)).size).toBe(1);
    expect(processes.map(({ stdout }) => stdout)).toEqual(["once\n", "once\n", "once\n"]);
    expect((await (await exec(echo, "k")).json()) as object).toMatchObject({ stdout: "once\n", returncode: 0 });
    expect(running()).toBe(1);
    const other = (await (await exec(echo, "another")).json()) as ContainerProcess;
    expect(other.process_id).not.toBe(processes[0]!.process_id);
  });

  it("is refused with another request", async () => {
    await exec(echo, "k");
    const other = await exec({ command: ["echo", "twice"] }, "k");
    expect(await problemOf(other)).toMatchObject({ status: 409, code: "idempotency_conflict" });
    expect(running()).toBe(1);
  });
});

describe("an exec while the host is away", () => {
  it("goes on when the host is back soon", async () => {
    fakeHost.isDown = true;
    const waiting = exec(echo);
    await new Promise((resolve) => setTimeout(resolve, 800));
    fakeHost.isDown = false;
    expect(await (await waiting).json()).toMatchObject({ returncode: 0, stdout: "once\n" });
    expect(running()).toBe(1);
  });

  it("says which process may have been started when it is not", async () => {
    fakeHost.isDown = true;
    const problem = await problemOf(await exec(echo));
    expect(problem).toMatchObject({ status: 503, code: "backend_unavailable" });
    expect(problem["process_id"]).toMatch(/^pr-[a-z0-9]{22}$/);
    expect(problem.detail).toContain(String(problem["process_id"]));
  }, 20_000);
});
