import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import Docker from "dockerode";
import { afterEach, describe, expect, it } from "vitest";
import { Instance, sleep, START } from "./instance.ts";
import {
  hostProcesses,
  isRunning,
  killHost,
  killWorker,
  processesNaming,
  runningContainers,
  signalAll,
  workerdsOf,
} from "./leftovers.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";

/** How long states may stay untrue after a restart. */
const TRUE_AGAIN_MS = 15_000;

describe.each(HOST_RUNTIMES)("crashes on the %s runtime", (runtime) => {
  let instance: Instance;
  afterEach(() => instance?.remove());

  it("Ctrl-C leaves no container and no process, and the record is there at the next start", async () => {
    instance = await Instance.start(runtime);
    const sandboxId = await instance.create({ tags: { kept: "yes" } });
    await instance.until(sandboxId, ["ready"]);
    await instance.exec(sandboxId, ["sleep", "300"], {}, 0);
    expect(await runningContainers(instance)).toEqual([sandboxId]);
    const workerds = workerdsOf(instance);
    expect(workerds).not.toEqual([]);
    await instance.interrupt();
    expect(workerds.filter(isRunning)).toEqual([]);
    expect(await runningContainers(instance)).toEqual([]);
    expect(processesNaming(instance.stateDirectory)).toEqual([]);
    await instance.start();
    expect(await instance.until(sandboxId, ["terminated"], TRUE_AGAIN_MS)).toMatchObject({
      finish_reason: "host_lost",
    });
    const { data } = await instance.call<{ data: { sandbox_id: string; state: string }[] }>(
      "GET",
      "/sandboxes?tag=kept=yes",
    );
    await expect.poll(() => data.map((sandbox) => sandbox.sandbox_id)).toEqual([sandboxId]);
  });

  it("a kill -9 of everything is cleaned up, and nothing is orphaned after the restart", async () => {
    instance = await Instance.start(runtime);
    const sandboxId = await instance.create({ timeout: 600 });
    await instance.until(sandboxId, ["ready"]);
    const workerds = workerdsOf(instance);
    await instance.kill();
    await expect.poll(() => workerds.filter(isRunning), { timeout: 5_000 }).toEqual([]);
    await instance.start();
    await expect
      .poll(async () => [(await instance.sandbox(sandboxId)).state, await runningContainers(instance)], {
        timeout: TRUE_AGAIN_MS,
        interval: 250,
      })
      .toEqual(["terminated", []]);
  });

  it("a kill -9 of the Worker loses nothing: the same sandbox goes on", async () => {
    instance = await Instance.start(runtime);
    const sandboxId = await instance.create({ timeout: 600 });
    await instance.until(sandboxId, ["ready"]);
    await instance.exec(sandboxId, ["sh", "-c", "echo still here > /tmp/mark"]);
    killWorker(instance);
    await instance.untilAnswers();
    expect(await instance.exec(sandboxId, ["cat", "/tmp/mark"])).toMatchObject({ stdout: "still here\n" });
    expect(await runningContainers(instance)).toEqual([sandboxId]);
  });

  it("a kill -9 of the host daemon leaves states true and no container orphaned", async () => {
    instance = await Instance.start(runtime);
    const sandboxId = await instance.create({ timeout: 600 });
    await instance.until(sandboxId, ["ready"]);
    killHost(instance);
    await sleep(TRUE_AGAIN_MS / 3);
    const sandbox = await instance.sandbox(sandboxId);
    const containers = await runningContainers(instance);
    if (sandbox.state === "ready") {
      expect(containers).toEqual([sandboxId]);
      expect(await instance.exec(sandboxId, ["echo", "again"])).toMatchObject({ stdout: "again\n" });
    } else {
      expect(sandbox.finish_reason).toBe("host_lost");
      expect(containers).toEqual([]);
    }
  });

  it("a container that is killed ends its sandbox within 15 s", async () => {
    instance = await Instance.start(runtime);
    const sandboxId = await instance.create({ timeout: 600 });
    await instance.until(sandboxId, ["ready"]);
    await killContainer(instance, sandboxId);
    const ended = await instance.until(sandboxId, ["finished", "terminated"], TRUE_AGAIN_MS);
    expect(ended).toMatchObject({ finish_reason: "signaled", returncode: 137 });
    await expect.poll(() => runningContainers(instance), { timeout: TRUE_AGAIN_MS }).toEqual([]);
  });

  it("a create while the host is down waits and starts, and is never stuck", async () => {
    instance = await Instance.start(runtime);
    const pids = hostProcesses(instance);
    signalAll(pids, "SIGSTOP");
    const sandboxId = await instance.create();
    expect(["created", "scheduled"]).toContain((await instance.sandbox(sandboxId)).state);
    signalAll(pids, "SIGCONT");
    await instance.until(sandboxId, ["ready"]);
  });
});

describe("two instances", () => {
  it("run side by side and do not meet", async () => {
    const [one, two] = await Promise.all([Instance.start("embedded"), Instance.start("embedded")]);
    try {
      const sandboxId = await one.create();
      expect((await two.fetch(`/sandboxes/${sandboxId}`)).status).toBe(404);
      await one.until(sandboxId, ["ready"]);
      await two.interrupt();
      expect(await one.exec(sandboxId, ["echo", "alive"])).toMatchObject({ stdout: "alive\n" });
    } finally {
      await Promise.all([one.remove(), two.remove()]);
    }
  });

  it("refuses a taken port, and settings that do not work, with a sentence", async () => {
    const one = await Instance.start("embedded");
    try {
      const second = new Instance(one.port, "embedded", `${one.stateDirectory}-second`);
      await expect(second.start()).rejects.toThrow(`Port ${one.port} is taken`);
      const refused = (env: Record<string, string>) => {
        const { stderr, status } = spawnSync(process.execPath, [START], {
          env: { ...process.env, ...env },
          timeout: 30_000,
        });
        return [status, stderr.toString()];
      };
      expect(refused({ DEV_KEY: "short", SANDBAR_STATE: second.stateDirectory })).toEqual([
        1,
        expect.stringContaining("DEV_KEY must have 16 characters or more"),
      ]);
      expect(refused({ SANDBAR_BACKEND: "mars" })).toEqual([
        1,
        expect.stringContaining("docker, cloudflare, not mars"),
      ]);
      expect(refused({ SANDBAR_BACKEND: "cloudflare" })).toEqual([1, expect.stringContaining("SANDBAR_CONTAINERS=1")]);
      const noDocker = { SANDBAR_CONTAINERS: "1", WRANGLER_DOCKER_BIN: "/no/docker" };
      expect(refused(noDocker)).toEqual([1, expect.stringContaining("needs a Docker engine")]);
    } finally {
      await one.remove();
    }
  });
});

/** Kills the container's first process from outside, as an operator or the OOM killer might. */
async function killContainer(instance: Instance, sandboxId: string): Promise<void> {
  if (instance.runtime === "docker") {
    const [container] = await new Docker().listContainers({ filters: { label: [`dev.sandbar.sandbox=${sandboxId}`] } });
    await new Docker().getContainer(container!.Id).kill({ signal: "SIGKILL" });
    return;
  }
  const stat = readFileSync(`${instance.stateDirectory}/host/sandboxes/${sandboxId}/init.stat`, "utf8");
  process.kill(Number.parseInt(stat, 10), "SIGKILL");
}
