import { execFileSync, spawn as spawnProgram } from "node:child_process";
import { once } from "node:events";
import { afterAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { Engine } from "../../src/host/docker/engine.ts";
import { spawnExec } from "../../src/host/docker/exec.ts";
import { signalInside } from "../../src/host/docker/group-signal.ts";
import { KernelView } from "../../src/host/docker/kernel-view.ts";
import type { Container, Spawned } from "../../src/host/runtime.ts";
import { DockerHost, follow, inspect, noEngine, spawn } from "./docker-host.ts";
import { until } from "./signed-host.ts";

const SCRIPT = ["sh", "-c", "sleep 4321 & echo $$; wait"];

describe.skipIf(noEngine !== undefined)("signals", { timeout: 30_000 }, () => {
  const opened = DockerHost.open();
  const engine = new Engine(undefined);
  afterAll(async () => (await opened).close());

  /** A group's leader, and its pid inside. */
  async function group(container: Container): Promise<{ process: Spawned; pid: number }> {
    const process = await spawn(container, SCRIPT);
    const seen = follow(process.stdout.stream());
    await until(() => seen.text.endsWith("\n"));
    return { process, pid: Number(seen.text) };
  }

  it("by the number inside reach the group of this container only", async () => {
    const host = await opened;
    const [one, two] = [await host.start(), await host.start()];
    const view = (container: Container) =>
      KernelView.open(inspect(container, "{{.Id}}"), Number(inspect(container, "{{.State.Pid}}")))!;
    const [first, second] = [await group(one), await group(two)];
    // This very process, and one that both sandboxes could name.
    for (const pid of [process.pid, 999_999]) expect(view(one).signalInside(pid, "SIGKILL")).toBe(false);
    expect(view(one).canSignal).toBe(true);
    expect(view(one).signalInside(first.pid, "SIGTERM")).toBe(true);
    expect(await first.process.exited).toBe(143);
    expect(view(one).signalInside(first.pid, "SIGTERM")).toBe(false);
    expect(view(two).signalInside(second.pid, "SIGKILL")).toBe(true);
    expect(await second.process.exited).toBe(137);
  });

  it("by a number of this machine reach nothing outside of the container", async () => {
    const container = await (await opened).idle();
    const view = KernelView.open(inspect(container, "{{.Id}}"), Number(inspect(container, "{{.State.Pid}}")))!;
    const outside = spawnProgram("sleep", ["4324"], { detached: true });
    view.signal(outside.pid!, "SIGKILL");
    expect(execFileSync("ps", ["-o", "stat=", "-p", String(outside.pid)]).toString()).toMatch(/^S/);
    outside.kill();
    expect(await once(outside, "exit")).toEqual([null, "SIGTERM"]);
    expect(KernelView.open("0".repeat(64), process.pid)).toBe(undefined);
  });

  it("go by the engine where this daemon may not send them", async () => {
    const container = await (await opened).idle();
    const containerId = inspect(container, "{{.Id}}");
    const { process, pid } = await group(container);
    expect(await signalInside(engine, { containerId, pid: 999_999, signal: "SIGTERM" })).toBe(false);
    // The group is there once the program has its session.
    await expect.poll(() => signalInside(engine, { containerId, pid, signal: "SIGTERM" })).toBe(true);
    expect(await process.exited).toBe(143);
  });

  it.each([true, false])("go by a mark where there is no number, busybox mounted: %s", async (hasTools) => {
    const container = await (await opened).idle();
    const context = {
      engine,
      containerId: inspect(container, "{{.Id}}"),
      containerEnded: container.exited,
      isStopping: () => false,
      view: undefined,
      hasTools,
    };
    for (const user of [undefined, "nobody"]) {
      const spec = { process_id: newId("process"), command: SCRIPT, env: {}, input: "none", user } as const;
      const process = await spawnExec(context, spec);
      const seen = follow(process.stdout.stream());
      await until(() => seen.text !== "");
      await process.kill("SIGKILL");
      expect(await process.exited).toBe(137);
    }
  });
});
