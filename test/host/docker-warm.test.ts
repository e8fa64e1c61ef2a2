import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";
import { DockerHost, makeImage, noEngine, removeImages } from "./docker-host.ts";
import { until } from "./signed-host.ts";
import { ENV, warmCalls } from "./warm-calls.ts";
import { inspectWarm, WarmHost, warmSpec } from "./warm-host.ts";

describe.skipIf(noEngine !== undefined)("warm containers on docker", { timeout: 60_000 }, () => {
  let host: WarmHost;
  const { call, status, run, mainOutput } = warmCalls(() => host);

  beforeAll(async () => {
    host = await WarmHost.start();
  });
  afterAll(async () => expect(await host.close()).toEqual([]));

  it("says that it can", async () => {
    expect((await call("GET", "/v1/info")).json).toMatchObject({ capabilities: { warm_pools: true } });
  });

  it("idle without anything of a user's, and become a sandbox's in a moment", async () => {
    const cold = await host.create();
    const warmId = await host.ready();
    expect(inspectWarm(warmId, "{{.State.Running}}")).toBe("true");
    expect(host.signed.daemon.containers.list().map(({ sandbox_id }) => sandbox_id)).not.toContain(warmId);
    const warm = await host.create({ warm: warmId, entrypoint: ["sh", "-c", "echo up; exec sleep 600"] });
    expect([warm.status, warm.json]).toEqual([200, { kind: "launched", published_ports: {} }]);
    expect(host.stateOf(warmId)).toBeUndefined();
    expect(await host.isIn(warm.box, warmId)).toBe(true);
    const idle = await host.ready().then((id) => host.create({ warm: id }));
    console.log(
      `start: cold ${cold.ms.toFixed(0)} ms, warm ${idle.ms.toFixed(1)} ms, with an entrypoint ${warm.ms.toFixed(1)} ms`,
    );
    expect(warm.ms).toBeLessThan(cold.ms / 4);
    expect(idle.ms).toBeLessThan(cold.ms / 4);
    await until(async () => (await mainOutput(warm.box)) === "up\n");
    for (const { box } of [cold, warm, idle]) {
      expect((await call("DELETE", box)).status).toBe(204);
      expect(await status(box)).toEqual({ kind: "gone" });
    }
    expect(inspectWarm(warmId, "{{.Id}}")).toBeUndefined();
  });

  it("take the place of a sandbox's earlier start", async () => {
    const [first, second] = [await host.ready(), await host.ready()];
    const { spec, box } = await host.create({ warm: first });
    const { json } = await host.create({ ...spec, generation: 2, warm: second });
    expect(json["kind"]).toBe("launched");
    expect(await host.isIn(box, second)).toBe(true);
    expect(inspectWarm(first, "{{.Id}}")).toBeUndefined();
    expect(await status(box)).toMatchObject({ kind: "running", generation: 2 });
    await call("DELETE", `${box}?generation=1`);
    expect(await status(box)).toMatchObject({ kind: "running" });
    await call("DELETE", box);
    expect(inspectWarm(second, "{{.Id}}")).toBeUndefined();
  });

  it("end at their deadline, counted from the create, and out of memory, as others do", async () => {
    const [timed, small] = [await host.ready(), await host.ready({ memory: 32 })];
    const one = await host.create({ warm: timed, lifetime_ms: 700 });
    const eater = ["sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x"];
    const other = await host.create({ warm: small, memory: 32, entrypoint: eater });
    expect(await status(one.box)).toMatchObject({ kind: "running" });
    await until(async () => (await status(one.box))["kind"] === "exited");
    expect(await status(one.box)).toMatchObject({ exit: { returncode: 124, deadline: true } });
    await until(async () => (await status(other.box))["kind"] === "exited", 20_000);
    expect(await status(other.box)).toMatchObject({ exit: { returncode: 137, oom: true } });
    await until(() => [timed, small].every((id) => inspectWarm(id, "{{.Id}}") === undefined));
    for (const { box } of [one, other]) await call("DELETE", box);
  });

  it("are kept as snapshots, asked for and at the end, without the sandbox's variables", async () => {
    const [asked, atEnd] = [newId("image"), newId("image")];
    const warmId = await host.ready();
    const { box } = await host.create({ warm: warmId, env: ENV, lifetime_ms: 4_000, end_image: atEnd });
    await run(box, "echo kept > /kept");
    const taken = await host.signed.send("POST", `${box}/snapshots/${asked}?wait_ms=20000`, {
      generation: 1,
      stop: false,
    });
    expect(taken.json).toMatchObject({ kind: "done" });
    await until(async () => (await status(box))["kind"] === "exited", 10_000);
    await call("DELETE", box);
    for (const image of [asked, atEnd]) {
      const name = `sandbar/${host.docker.hostId}:${image}`;
      const labels = execFileSync("docker", ["image", "inspect", name, "-f", "{{json .Config.Labels}}"]).toString();
      expect(JSON.parse(labels)).toEqual({ "dev.sandbar.snapshot": image });
      // A snapshot is an image for warm containers, too.
      const next = await host.create({ image, warm: await host.ready({ image }) });
      expect((await run(next.box, "cat /kept; env")).stdout).toMatch(/^kept\n(?![^]*TOKEN)/);
      await call("DELETE", next.box);
      await call("DELETE", `/v1/images/${image}`);
    }
  });

  it("that cannot start say why, once", async () => {
    const warmId = host.order({ image: "sandbar/none:such" });
    await host.until(warmId, "failed");
    expect(host.shelf.list()).toContainEqual({
      warm_id: warmId,
      state: "failed",
      error: expect.stringContaining("is a snapshot"),
    });
    host.order();
    expect(host.stateOf(warmId)).toBe("failed");
  });

  it("are as many as are ordered, two started at a time", async () => {
    host.shelf.converge([]);
    await until(() => host.docker.left() === "");
    const specs = [1, 2, 3, 4, 5].map(() => warmSpec());
    host.shelf.converge(specs);
    let most = 0;
    await until(() => {
      const { length } = host.shelf.list().filter(({ state }) => state === "ready");
      const made = host.docker.left().split("\n").filter(Boolean).length;
      most = Math.max(most, made - length);
      return length === 5;
    }, 30_000);
    // One that has just become ready may be counted with those that start.
    expect(most).toBeLessThanOrEqual(4);
    host.shelf.converge(specs.slice(0, 2));
    await until(() => host.docker.left().split("\n").length === 2);
    expect(host.shelf.list().map(({ warm_id }) => warm_id)).toEqual(specs.slice(0, 2).map(({ warm_id }) => warm_id));
    host.shelf.converge([]);
    await until(() => host.docker.left() === "");
  });
});

describe.skipIf(noEngine !== undefined)("an image that says that it is a warm container, or is kept at its end", () => {
  it("has no say", async () => {
    const labels = ["warm=../../etc", `end-image=${newId("image")}`, "entrypoint=true"];
    const image = makeImage("sandbar-test-labels", ...labels.map((label) => `LABEL dev.sandbar.${label}`));
    const host = await DockerHost.open();
    const { sandboxId, endImage } = await host.start({ image });
    expect(endImage).toBeUndefined();
    const [found, ...more] = await (await openDockerRuntime({ ...host })).recover();
    expect(more).toEqual([]);
    expect([found!.sandboxId, found!.endImage, found!.main]).toEqual([sandboxId, undefined, undefined]);
    await found!.stop();
    await host.close();
    removeImages(image);
  });
});

describe.skipIf(noEngine !== undefined)("warm containers on an engine that cannot use the launcher", () => {
  it("fail with the reason, and sandboxes start as ever", async () => {
    const host = await WarmHost.start(undefined, { useLauncher: false });
    const { capabilities } = (await host.signed.call("GET", "/v1/info")).json as { capabilities: object };
    expect(capabilities).not.toHaveProperty("warm_pools");
    const warmId = host.order();
    await host.until(warmId, "failed");
    expect(host.shelf.list()[0]!.error).toMatch(/launcher/);
    const { json } = await host.create({ warm: warmId });
    expect(json["kind"]).toBe("launched");
    expect(await host.close()).toEqual([]);
  });
});
