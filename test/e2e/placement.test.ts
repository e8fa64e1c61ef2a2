import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { noGpuEngine, startGpuEngine } from "../host/gpu-engine.ts";
import { StandInGpus } from "../host/stand-in-gpus.ts";
import { Instance, sleep, type SandboxView } from "./instance.ts";
import type { SecondEngine } from "./second-engine.ts";
import { JoinedHost } from "./second-host.ts";

if (noGpuEngine) console.warn(`No sandboxes on several hosts, one with GPUs: ${noGpuEngine}.`);

const DEVICES = 8;

interface HostView {
  host_id: string;
  state: string;
  draining: boolean;
  key_version: number;
  next_key_version?: number;
  used?: { sandboxes: number; gpus: number };
  capacity?: { gpus: { uuid: string; type: string }[] };
}

/** What `npm start` runs, with its own host, and another whose engine and driver are those of a machine with eight L4. */
describe.skipIf(noGpuEngine !== undefined)("two hosts, one with GPUs", { timeout: 180_000 }, () => {
  const gpus = new StandInGpus(DEVICES);
  let engine: SecondEngine;
  let instance: Instance;
  let host: JoinedHost;
  let ownHostId: string;

  beforeAll(async () => {
    engine = await startGpuEngine(gpus);
    instance = await Instance.start("docker");
    [ownHostId] = (await hosts()).map(({ host_id }) => host_id) as [string];
    const options = ["--region", "rack-g", "--label", "disk=nvme"];
    host = await JoinedHost.join(instance, engine, { options, own: gpus.env });
  }, 240_000);
  afterAll(async () => {
    await host?.remove();
    await instance?.remove();
    await engine?.remove();
    gpus.remove();
  }, 120_000);

  const hosts = async () => (await instance.call<{ data: HostView[] }>("GET", "/hosts")).data;
  const view = (hostId: string) => instance.call<HostView>("GET", `/hosts/${hostId}`);
  const create = (body: object) => instance.create({ timeout: 170, ...body });
  const end = (id: string) => instance.call("DELETE", `/sandboxes/${id}`);
  const endAll = (ids: readonly string[]) => Promise.all(ids.map(end));
  const visible = async (id: string) => {
    const { stdout } = await instance.exec(id, ["sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"]);
    return stdout.trim();
  };
  const hostOf = async (id: string) => {
    const events = await (await instance.fetch(`/sandboxes/${id}/events?follow=false`)).text();
    return /"host_id":"(ho-[a-z0-9]+)"/.exec(events)?.[1];
  };
  const until = async (holds: () => Promise<boolean>, what: string, ms = 30_000) => {
    for (const giveUpAt = Date.now() + ms; !(await holds()); await sleep(200))
      if (Date.now() > giveUpAt) throw new Error(`never ${what}`);
  };

  it("are told with what they have", async () => {
    const { capacity, used, state } = await view(host.hostId);
    expect([state, capacity!.gpus.map(({ uuid, type }) => [uuid, type])]).toEqual([
      "alive",
      gpus.uuids.map((uuid) => [uuid, "L4"]),
    ]);
    expect(used).toMatchObject({ sandboxes: 0, gpus: 0 });
  });

  it("give each device one owner, whoever races for them, and to those who wait what others leave", async () => {
    const owners = new Map<string, string>();
    const running = new Set<string>();
    // Longer than the whole test, so that nobody gives up.
    const ids = await Promise.all(Array.from({ length: 40 }, () => create({ gpu: "L4" })));
    const left = new Set(ids);
    const settle = async () => {
      const states = await Promise.all([...left].map((id) => instance.sandbox(id)));
      for (const { sandbox_id: id, state } of states) {
        if (state !== "ready") {
          if (state === "terminated") left.delete(id);
          continue;
        }
        left.delete(id);
        const uuid = await visible(id);
        expect(gpus.uuids).toContain(uuid);
        const before = owners.get(uuid);
        // Nobody has it who still runs.
        expect(before !== undefined && running.has(before)).toBe(false);
        owners.set(uuid, id);
        running.add(id);
      }
    };
    await until(async () => (await settle(), running.size === DEVICES), "eight of them");
    expect(new Set(owners.keys())).toEqual(new Set(gpus.uuids));
    expect((await view(host.hostId)).used).toMatchObject({ gpus: DEVICES });
    // They end in different ways: deleted, by a kill of the container, by their lifetime.
    const [deleted, killed, timedOut] = [...running] as [string, string, string];
    for (const [id, finish] of [
      [deleted, () => end(deleted)],
      [killed, () => engine.docker.getContainer(`sandbar-${killed}-1`).kill()],
      [timedOut, () => instance.call("PATCH", `/sandboxes/${timedOut}`, { timeout: 1 })],
    ] as const) {
      await finish();
      await instance.until(id, ["terminated", "finished"]);
      running.delete(id);
      await until(async () => (await settle(), running.size === DEVICES), "the next one");
    }
    await endAll(ids);
    await until(async () => (await view(host.hostId)).used!.gpus === 0, "all free");
    expect(await engine.docker.listContainers({ all: true })).toEqual([]);
  });

  it("give several devices at once, the best of a preference, and none to whom asks for none", async () => {
    const several = await create({ gpu: "h100:2,l4:3" });
    const none = await create({ region: "rack-g" });
    await Promise.all([several, none].map((id) => instance.until(id, ["ready"])));
    const seen = (await visible(several)).split(",");
    expect([seen.length, new Set(seen).size, seen.every((uuid) => gpus.uuids.includes(uuid))]).toEqual([3, 3, true]);
    expect(await visible(none)).toBe("void");
    expect(await hostOf(none)).toBe(host.hostId);
    await endAll([several, none]);
  });

  it("are chosen by label, and what none of them has is refused", async () => {
    const labelled = await create({ host_labels: { disk: "nvme" } });
    await instance.until(labelled, ["ready"]);
    expect(await hostOf(labelled)).toBe(host.hostId);
    await end(labelled);
    for (const [body, path] of [
      [{ gpu: "H100" }, "gpu"],
      [{ gpu: "L4:9" }, "gpu"],
      [{ region: "elsewhere" }, "region"],
      [{ host_labels: { disk: "tape" } }, "host_labels.disk"],
      [{ cpu: 10_000 }, "cpu"],
    ] as const) {
      const response = await instance.fetch("/sandboxes", { method: "POST", body: JSON.stringify(body) });
      const problem = (await response.json()) as { errors: { path: string }[] };
      expect([response.status === 400 || response.status === 422, problem.errors[0]!.path]).toEqual([true, path]);
    }
  });

  it("take nothing new while they drain, and lose nothing that they have", async () => {
    const stays = await create({ gpu: "L4" });
    await instance.until(stays, ["ready"]);
    await instance.call("PATCH", `/hosts/${host.hostId}`, { draining: true });
    const others = await Promise.all(Array.from({ length: 3 }, () => create({})));
    await Promise.all(others.map((id) => instance.until(id, ["ready"])));
    expect(new Set(await Promise.all(others.map(hostOf)))).toEqual(new Set([ownHostId]));
    const waits = await create({ gpu: "L4" });
    await sleep(1_000);
    expect((await instance.sandbox(waits)).state).toBe("created");
    expect((await instance.exec(stays, ["echo", "there"])).stdout).toBe("there\n");
    await instance.call("PATCH", `/hosts/${host.hostId}`, { draining: false });
    await instance.until(waits, ["ready"]);
    await endAll([stays, waits, ...others]);
  });

  it("keep what they have over a kill of the daemon, and a kill of the control plane", async () => {
    const first = await create({ gpu: "L4:5" });
    await instance.until(first, ["ready"]);
    const had = await visible(first);
    await host.kill();
    await host.start();
    expect(await visible(first)).toBe(had);
    const more = await Promise.all([create({ gpu: "L4:2" }), create({ gpu: "L4:2" })]);
    await until(async () => (await states(more)).includes("ready"), "the second");
    await instance.kill();
    await instance.start();
    await until(async () => (await view(host.hostId)).state === "alive", "back");
    expect(await visible(first)).toBe(had);
    const running = (await Promise.all(more.map((id) => instance.sandbox(id)))).filter(
      ({ state }) => state === "ready",
    );
    expect(running).toHaveLength(1);
    const second = await visible(running[0]!.sandbox_id);
    expect(new Set([...had.split(","), ...second.split(",")]).size).toBe(7);
    await endAll([first, ...more]);
    await until(async () => (await view(host.hostId)).used!.gpus === 0, "all free");
  });

  it("get another key without losing a call", async () => {
    const id = await create({ region: "rack-g" });
    await instance.until(id, ["ready"]);
    let isOver = false;
    const failures: unknown[] = [];
    const calls = (async () => {
      while (!isOver) await instance.exec(id, ["true"]).catch((error: unknown) => failures.push(error));
    })();
    const before = (await view(host.hostId)).key_version;
    await instance.call("POST", `/hosts/${host.hostId}/rotate-key`, {});
    await until(async () => (await view(host.hostId)).key_version === before + 1, "rotated");
    await sleep(500);
    isOver = true;
    await calls;
    expect(failures).toEqual([]);
    expect((await view(host.hostId)).next_key_version).toBeUndefined();
    await end(id);
  });

  it("are waited for by a sandbox until its time is up, and it says what was missing", async () => {
    const all = await create({ gpu: "L4:8" });
    await instance.until(all, ["ready"]);
    const waits = await create({ gpu: "L4" });
    const ended = await instance.call<SandboxView>("GET", `/sandboxes/${waits}/wait?until=ended&timeout=60`);
    expect(ended).toMatchObject({ state: "terminated", finish_reason: "no_capacity" });
    expect(ended.error).toContain("1 × L4");
    await end(all);
  });

  const states = async (ids: readonly string[]) =>
    (await Promise.all(ids.map((id) => instance.sandbox(id)))).map(({ state }) => state);
});
