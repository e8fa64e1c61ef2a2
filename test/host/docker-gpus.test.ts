import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { HostInfo } from "../../src/contract/host-info.ts";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { DockerGpus } from "../../src/host/docker/gpus.ts";
import { Engine } from "../../src/host/docker/engine.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";
import type { SecondEngine } from "../e2e/second-engine.ts";
import { DaemonProcess } from "./daemon-process.ts";
import { IMAGE, noEngine } from "./docker-host.ts";
import { GREEDY_IMAGE, noGpuEngine, startGpuEngine } from "./gpu-engine.ts";
import { text, until, type HostCaller } from "./signed-host.ts";
import { StandInGpus } from "./stand-in-gpus.ts";

if (noGpuEngine) console.log(`GPUs on docker: skipped, ${noGpuEngine}`);

describe.skipIf(noGpuEngine !== undefined)("GPUs, on an engine that has NVIDIA's hook", { timeout: 60_000 }, () => {
  const gpus = new StandInGpus(3);
  const [one, other] = gpus.uuids as [string, string];
  let engine: SecondEngine;
  let daemon: DaemonProcess;
  let host: HostCaller;

  beforeAll(async () => {
    engine = await startGpuEngine(gpus);
    const env = { ...gpus.env, DOCKER_HOST: `unix://${engine.socketPath}` };
    daemon = await DaemonProcess.start("docker", { env });
    host = daemon.host;
  });
  afterAll(async () => {
    await daemon?.remove();
    await engine?.remove();
    gpus.remove();
  });

  const docker = (...args: string[]) =>
    execFileSync("docker", ["-H", `unix://${engine.socketPath}`, ...args], { stdio: "pipe" })
      .toString()
      .trim();
  const nameOf = ({ sandbox_id, generation }: StartSpec) => `sandbar-${sandbox_id}-${generation}`;
  const start = async (more: Partial<StartSpec>) => {
    const spec = host.spec({ image: IMAGE, ...more });
    const { status, json } = await host.put(spec);
    return { spec, path: `/v1/sandboxes/${spec.sandbox_id}`, status, json };
  };
  const end = ({ path }: { path: string }) => host.call("DELETE", path);
  const sees = async ({ path }: { path: string }, more: object = {}) => {
    const { output } = await host.exec(path, ["sh", "-c", 'echo "$NVIDIA_VISIBLE_DEVICES"'], more);
    return text(output!.stdout).trim();
  };
  /** Whether it is free again soon: the control plane asks anew, too. */
  const untilFree = (uuid: string) =>
    until(async () => {
      const next = await start({ gpus: [uuid] });
      if (next.status === 409) return false;
      expect(next.json["kind"]).toBe("launched");
      await end(next);
      return true;
    }, 20_000);

  it("are what the host says that it has", async () => {
    const info = (await host.call("GET", "/v1/info")).json as unknown as HostInfo;
    expect(info.capabilities.gpu).toBe(true);
    expect(info.capacity).toMatchObject({ cpu: expect.any(Number), cpu_overcommit: 16 });
    expect(info.capacity!.gpus.map(({ uuid, type }) => [uuid, type])).toEqual(gpus.uuids.map((uuid) => [uuid, "L4"]));
    // The probe leaves nothing.
    expect([docker("ps", "-aq"), docker("images", "-q", "sandbar/gpu-probe")]).toEqual(["", ""]);
  });

  it("are those that a container was given, and no others, whatever it is told", async () => {
    const two = await start({ gpus: [other, one] });
    const none = await start({});
    const greedy = await start({ image: GREEDY_IMAGE });
    const greedyWithOne = await start({ image: GREEDY_IMAGE, gpus: [gpus.uuids[2]!] });
    const asking = await start({ env: { NVIDIA_VISIBLE_DEVICES: "all" } });
    expect(await sees(two)).toBe(`${other},${one}`);
    expect(await Promise.all([none, greedy, asking].map((box) => sees(box)))).toEqual(["void", "void", "void"]);
    expect(await sees(greedyWithOne)).toBe(gpus.uuids[2]);
    const { HostConfig } = await engine.docker.getContainer(nameOf(two.spec)).inspect();
    expect(HostConfig.DeviceRequests).toMatchObject([{ Driver: "nvidia", DeviceIDs: [other, one] }]);
    // A process has its own variables and no more devices: those come with the container.
    expect(await sees(none, { env: { NVIDIA_VISIBLE_DEVICES: "all" } })).toBe("all");
    expect((await engine.docker.getContainer(nameOf(none.spec)).inspect()).HostConfig.DeviceRequests ?? []).toEqual([]);
    await Promise.all([two, none, greedy, greedyWithOne, asking].map(end));
  });

  it("are refused where they are in use, or not there", async () => {
    const first = await start({ gpus: [one] });
    const second = await start({ gpus: [one, other] });
    expect([second.status, second.json["code"], second.json["detail"]]).toEqual([
      409,
      "conflict",
      `The GPU ${one} is in use by ${first.spec.sandbox_id}.`,
    ]);
    expect((await start({ gpus: ["GPU-none"] })).json).toMatchObject({ code: "conflict" });
    expect((await start({ gpus: [other] })).json["kind"]).toBe("launched");
    await end(first);
    expect((await start({ gpus: [one] })).json["kind"]).toBe("launched");
    const containers = docker("ps", "-aq").split("\n");
    expect(containers.length).toBe(2);
    docker("rm", "-f", ...containers);
    await untilFree(one);
    await untilFree(other);
  });

  it("are free after an exit, a deadline, a start that failed and a container that somebody removed", async () => {
    await start({ gpus: [one], entrypoint: ["sh", "-c", "exit 3"] });
    await untilFree(one);
    await start({ gpus: [one], lifetime_ms: 300 });
    await untilFree(one);
    const failed = await start({ gpus: [one], entrypoint: ["/nothing/here"] });
    expect(failed.json["kind"]).toBe("failed");
    await untilFree(one);
    expect((await start({ gpus: [one], image: "nowhere.invalid/none" })).json["kind"]).toBe("failed");
    await untilFree(one);
    const killed = await start({ gpus: [one] });
    docker("kill", nameOf(killed.spec));
    await untilFree(one);
    const removed = await start({ gpus: [one] });
    docker("rm", "-f", nameOf(removed.spec));
    await untilFree(one);
    expect(docker("ps", "-aq")).toBe("");
  });

  it("stay with their container over a restart of the host, and are free once it has ended", async () => {
    const running = await start({ gpus: [one] });
    const ending = await start({ gpus: [other], entrypoint: ["sleep", "2"] });
    expect(ending.json["kind"]).toBe("launched");
    await daemon.restart(2_500);
    expect(await sees(running)).toBe(one);
    const late = await start({ gpus: [one] });
    expect(late.json["detail"]).toBe(`The GPU ${one} is in use by ${running.spec.sandbox_id}.`);
    await untilFree(other);
    expect((await start({ gpus: [one] })).status).toBe(409);
    await end(running);
    await untilFree(one);
  });

  it("are not in a snapshot of a container that had some", async () => {
    const box = await start({ gpus: [one] });
    const image = newId("image");
    await until(async () => {
      const body = { generation: 1, stop: false };
      return (await host.send("POST", `${box.path}/snapshots/${image}?wait_ms=10000`, body)).json["kind"] === "done";
    });
    const config = docker("image", "inspect", `sandbar/${host.hostId}:${image}`);
    expect(config).not.toContain("GPU-");
    await end(box);
    const next = await start({ image });
    expect(await sees(next)).toBe("void");
    await end(next);
  });
});

describe.skipIf(noEngine !== undefined)("GPUs, on an engine without the hook", () => {
  const gpus = new StandInGpus(1);
  const dataDir = mkdtempSync("/tmp/sandbar-no-gpu-");
  const hostId = newId("host");
  afterAll(() => {
    gpus.remove();
    rmSync(dataDir, { recursive: true, force: true });
    delete process.env["SANDBAR_GPUS"];
  });

  it("are not to be had, unless its operator says so", async () => {
    const runtime = await openDockerRuntime({ dataDir, hostId });
    expect(await runtime.whyNoGpus(gpus.uuids)).toMatch(/has no NVIDIA driver: .*could not select device driver/);
    process.env["SANDBAR_GPUS"] = "on";
    expect(await runtime.whyNoGpus(gpus.uuids)).toBeUndefined();
    process.env["SANDBAR_GPUS"] = "off";
    expect(await runtime.whyNoGpus(gpus.uuids)).toBe("SANDBAR_GPUS is off");
    const names = execFileSync("docker", ["ps", "-a", "--format", "{{.Names}}"]).toString();
    expect(names).not.toContain(hostId);
  });

  it("tells users' images from its own", async () => {
    const runtime = await openDockerRuntime({ dataDir, hostId });
    const references = await runtime.listReferences();
    expect(references).toContain(IMAGE);
    expect(references.filter((reference) => reference.startsWith("sandbar/"))).toEqual([]);
  });
});

describe("GPUs, by CDI", () => {
  const uuids = ["GPU-a", "GPU-b"];
  const discovered = (ids: string[]) => ({
    DiscoveredDevices: ids.map((id) => ({ Source: "cdi", ID: `nvidia.com/gpu=${id}` })),
  });
  const gpusOn = (info: object) => {
    const engine = new Engine("/nowhere.sock");
    engine.info = async () => info;
    return new DockerGpus(engine, newId("host"), info);
  };

  it("are asked for by their names there", async () => {
    const gpus = gpusOn(discovered(["0", "all", ...uuids]));
    expect(await gpus.whyNot(uuids)).toBeUndefined();
    expect(gpus.settings(["GPU-b"])).toEqual({
      env: { NVIDIA_VISIBLE_DEVICES: "void" },
      requests: [{ Driver: "cdi", DeviceIDs: ["nvidia.com/gpu=GPU-b"] }],
    });
  });

  it("are kept from images as soon as the engine knows of any", () => {
    expect(gpusOn(discovered(["0"])).settings().env).toEqual({ NVIDIA_VISIBLE_DEVICES: "void" });
    expect(gpusOn({ Runtimes: { nvidia: {} } }).settings().env).toEqual({ NVIDIA_VISIBLE_DEVICES: "void" });
    expect(gpusOn({ Runtimes: { runc: {} } }).settings().env).toEqual({});
  });

  it("are not where only some have such a name", async () => {
    const gpus = gpusOn(discovered(["GPU-a"]));
    await expect(gpus.whyNot(uuids)).rejects.toThrow();
    expect(gpus.settings(["GPU-a"]).requests).toMatchObject([{ Driver: "nvidia" }]);
  });
});
