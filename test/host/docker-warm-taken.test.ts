import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { makeImage, noEngine, removeImages } from "./docker-host.ts";
import { until } from "./signed-host.ts";
import { warmCalls } from "./warm-calls.ts";
import { inspectWarm, WarmHost, warmSpec } from "./warm-host.ts";

describe.skipIf(noEngine !== undefined)("warm containers on docker", { timeout: 60_000 }, () => {
  let host: WarmHost;
  const { call, run } = warmCalls(() => host);

  beforeAll(async () => {
    host = await WarmHost.start();
  });
  afterAll(async () => expect(await host.close()).toEqual([]));

  it("are nobody's but the first one's who asks", async () => {
    const warmId = await host.ready();
    const both = await Promise.all([1, 2].map(() => host.create({ warm: warmId })));
    expect(both.map(({ json }) => json["kind"])).toEqual(["launched", "launched"]);
    const isIn = await Promise.all(both.map(({ box }) => host.isIn(box, warmId)));
    expect(isIn.toSorted()).toEqual([false, true]);
    const late = await host.create({ warm: warmId });
    expect(await host.isIn(late.box, warmId)).toBe(false);
    // Ordered once more by who has not heard of it yet, it is not made again.
    host.shelf.converge([warmSpec({ warm_id: warmId })]);
    expect(host.stateOf(warmId)).toBeUndefined();
    host.shelf.converge([]);
    host.shelf.converge([warmSpec({ warm_id: warmId })]);
    await host.until(warmId, "failed");
    const winner = both[isIn.indexOf(true)]!.box;
    expect((await run(winner, "echo mine")).stdout).toBe("mine\n");
    for (const { box } of [...both, late]) await call("DELETE", box);
  });

  it.each([
    ["environment", { environment: "other" }],
    ["cpu", { cpu: 0.5 }],
    ["memory", { memory: 256 }],
    ["workdir", { workdir: "/tmp" }],
    ["published ports", { raw_ports: [8000] }],
  ])("that are of another %s are not taken, and go", async (_, spec) => {
    const warmId = await host.ready({ memory: 128 });
    const { box, json } = await host.create({ memory: 128, ...spec, warm: warmId });
    expect(json["kind"]).toBe("launched");
    expect(inspectWarm(warmId, "{{.Id}}")).toBeUndefined();
    expect((await run(box, "echo cold")).stdout).toBe("cold\n");
    await call("DELETE", box);
  });

  it("of another image are not taken", async () => {
    const image = makeImage("sandbar-test-warm", "ENV WHOSE=other");
    const warmId = await host.ready();
    const { box } = await host.create({ image, warm: warmId });
    expect((await run(box, "echo $WHOSE")).stdout).toBe("other\n");
    await call("DELETE", box);
    removeImages(image);
  });

  it("that were killed are told of, and are no sandbox's", async () => {
    const [seen, unseen] = [await host.ready(), await host.ready()];
    execFileSync("docker", ["kill", `sandbar-${unseen}`], { stdio: "pipe" });
    const { box, json } = await host.create({ warm: unseen });
    expect(json["kind"]).toBe("launched");
    expect((await run(box, "echo cold")).stdout).toBe("cold\n");
    execFileSync("docker", ["kill", `sandbar-${seen}`], { stdio: "pipe" });
    await host.until(seen, "failed");
    expect(host.shelf.list()).toContainEqual({ warm_id: seen, state: "failed", error: "The container has ended." });
    await until(() => [seen, unseen].every((id) => inspectWarm(id, "{{.Id}}") === undefined));
    await call("DELETE", box);
  });

  it("are waited for when they are just starting", async () => {
    const warmId = host.order();
    await until(() => inspectWarm(warmId, "{{.Id}}") !== undefined);
    const { box } = await host.create({ warm: warmId });
    expect(await host.isIn(box, warmId)).toBe(true);
    await call("DELETE", box);
  });

  it("make room: gone before the other one starts", async () => {
    const [ready, spared] = [await host.ready(), await host.ready()];
    const starting = host.order();
    await until(() => inspectWarm(starting, "{{.Id}}") !== undefined);
    const before = performance.now();
    const { box } = await host.create({ warm: spared, evict: [ready, starting, newId("warm")] });
    expect([ready, starting].map((id) => inspectWarm(id, "{{.Id}}"))).toEqual([undefined, undefined]);
    expect(await host.isIn(box, spared)).toBe(true);
    expect(performance.now() - before).toBeLessThan(10_000);
    await call("DELETE", box);
  });
});
