import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import Docker from "dockerode";
import { afterEach, describe, expect, it } from "vitest";
import { DEV_KEY, Instance, sleep, START } from "./instance.ts";
import { pidsOf, processesNaming, runningContainers, signalAll } from "./leftovers.ts";
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
    await instance.interrupt();
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
    await instance.kill();
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
    signalAll(pidsOf(`workerd.*${instance.stateDirectory}|wrangler.*${instance.stateDirectory}`), "SIGKILL");
    await untilAnswers(instance);
    expect(await instance.exec(sandboxId, ["cat", "/tmp/mark"])).toMatchObject({ stdout: "still here\n" });
    expect(await runningContainers(instance)).toEqual([sandboxId]);
  });

  it("a kill -9 of the host daemon leaves states true and no container orphaned", async () => {
    instance = await Instance.start(runtime);
    const sandboxId = await instance.create({ timeout: 600 });
    await instance.until(sandboxId, ["ready"]);
    signalAll(pidsOf(`cli.ts host.*${instance.stateDirectory}`), "SIGKILL");
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
    const pids = pidsOf(`cli.ts host.*${instance.stateDirectory}`);
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

  it.each(["before", "of"])(
    "a kill -9 of the runtime %s the Worker alone leaves no API that hangs",
    async (which) => {
      const instance = await Instance.start("embedded");
      try {
        const sandboxId = await instance.create({ timeout: 600 });
        await instance.until(sandboxId, ["ready"]);
        await instance.exec(sandboxId, ["sh", "-c", "echo still here > /tmp/mark"]);
        const runtimes = pidsOf(`wrangler-dist/cli.js.*${instance.stateDirectory}`).flatMap((wrangler) =>
          pidsOf("workerd serve", wrangler),
        );
        const [before] = pidsOf(`workerd serve.*entry=127.0.0.1:${instance.port} `);
        expect(runtimes).toHaveLength(2);
        const pid = which === "before" ? before : runtimes.find((one) => one !== before);
        process.kill(pid!, "SIGKILL");
        await untilAnswers(instance, 80_000);
        expect(await instance.exec(sandboxId, ["cat", "/tmp/mark"])).toMatchObject({ stdout: "still here\n" });
      } finally {
        await instance.remove();
      }
    },
    120_000,
  );

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

async function untilAnswers(instance: Instance, limitMs = 15_000): Promise<void> {
  for (const giveUpAt = Date.now() + limitMs; Date.now() < giveUpAt;) {
    await sleep(100);
    const health = await fetch(`${instance.url}/health`, { signal: AbortSignal.timeout(2000) }).catch(() => undefined);
    if (health?.ok) return;
  }
  throw new Error(`The Worker did not come back (key ${DEV_KEY}):\n${instance.output}`);
}

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
