import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StartSpec, WarmSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { DaemonProcess } from "./daemon-process.ts";
import { IMAGE, noEngine } from "./docker-host.ts";
import { ReportTaker } from "./report-taker.ts";
import { text, until, type HostCaller } from "./signed-host.ts";
import { inspectWarm, WarmHost, warmSpec } from "./warm-host.ts";

const REPORT_MS = 8_000;

describe.skipIf(noEngine !== undefined)("warm containers and the control plane", () => {
  it("come and go as it orders, are told of, and stay where it says nothing", async () => {
    const taker = await ReportTaker.start();
    const [one, other] = [warmSpec(), warmSpec()];
    taker.standing = { warm: [one, other] };
    const host = await WarmHost.start(taker);
    const told = () => taker.last?.warm?.map(({ warm_id, state }) => `${warm_id} ${state}`);
    const ready = ({ warm_id }: WarmSpec) => `${warm_id} ready`;
    const begun = performance.now();
    await until(() => told()?.join() === [one, other].map(ready).join(), REPORT_MS);
    // As soon as it is so, not at the next turn.
    expect(performance.now() - begun).toBeLessThan(4_000);
    expect(taker.reports[0]!.warm).toEqual([]);
    expect(taker.last!.info.capabilities.warm_pools).toBe(true);
    taker.standing = {};
    const { box, spec } = await host.create({ warm: one.warm_id });
    await until(() => told()?.join() === ready(other), 1_000);
    expect(taker.last!.containers).toEqual([{ sandbox_id: spec.sandbox_id, generation: 1, running: true }]);
    await until(() => host.stateOf(other.warm_id) === "ready");
    taker.standing = { warm: [] };
    await until(() => inspectWarm(other.warm_id, "{{.Id}}") === undefined, REPORT_MS);
    taker.standing = {};
    expect(await host.isIn(box, one.warm_id)).toBe(true);
    // Ends with one on the shelf, one that starts and one that is a sandbox's.
    const [third, fourth] = [await host.ready(), host.order()];
    await until(() => inspectWarm(fourth, "{{.Id}}") !== undefined);
    expect(await host.close()).toEqual([]);
    expect(inspectWarm(third, "{{.Id}}")).toBeUndefined();
    taker.close();
  });
});

describe.skipIf(noEngine !== undefined)("warm containers of a daemon that is killed", { timeout: 90_000 }, () => {
  let taker: ReportTaker;
  let daemon: DaemonProcess;
  let host: HostCaller;

  beforeAll(async () => {
    taker = await ReportTaker.start();
    daemon = await DaemonProcess.start("docker", { controlPlaneUrl: taker.url });
    host = daemon.host;
  });
  afterAll(async () => {
    taker.standing = { warm: [] };
    await until(() => containers().length === 0, REPORT_MS);
    const folders = [await daemon.runtimeDir(), `${daemon.dataDir}/docker`];
    await until(() => folders.every((folder) => readdirSync(folder).length === 0));
    await daemon.remove();
    taker.close();
  });

  const containers = () => {
    const filter = `label=dev.sandbar.host=${host.hostId}`;
    return execFileSync("docker", ["ps", "-aq", "--no-trunc", "--filter", filter])
      .toString()
      .split("\n")
      .filter(Boolean);
  };
  const idOf = ({ warm_id }: WarmSpec) => inspectWarm(warm_id, "{{.Id}}");
  const state = ({ warm_id }: WarmSpec) => taker.last?.warm?.find((one) => one.warm_id === warm_id)?.state;
  const path = ({ sandbox_id }: StartSpec) => `/v1/sandboxes/${sandbox_id}`;
  const status = async (spec: StartSpec) => (await host.call("GET", path(spec))).json;
  const mainOutput = async (spec: StartSpec) =>
    (await host.call("GET", `${path(spec)}/processes/main/stdout`)).body.toString();
  const stateFile = ({ warm_id }: WarmSpec, name: string) => `${daemon.dataDir}/docker/${warm_id}/${name}`;

  /** As many that are ready. */
  async function ready(count: number): Promise<WarmSpec[]> {
    const specs = Array.from({ length: count }, () => warmSpec({ memory: 128 }));
    taker.standing = { warm: specs };
    await until(() => specs.every((spec) => state(spec) === "ready"), 2 * REPORT_MS);
    taker.standing = {};
    return specs;
  }

  const boxSpec = (warm: WarmSpec, more: Partial<StartSpec> = {}) =>
    host.spec({ image: IMAGE, memory: 128, warm: warm.warm_id, ...more });

  it("are ready for the next one, which knows them as they were made", async () => {
    const [one, other, dead, broken] = (await ready(4)) as [WarmSpec, WarmSpec, WarmSpec, WarmSpec];
    const before = [one, other].map(idOf);
    await daemon.kill();
    execFileSync("docker", ["kill", `sandbar-${dead.warm_id}`]);
    // As of a start that was cut off.
    rmSync(stateFile(broken, "started"));
    taker.reports.length = 0;
    await daemon.start();
    await until(() => taker.reports.length > 0);
    expect(taker.reports[0]!.warm!.toSorted((a, b) => a.warm_id.localeCompare(b.warm_id))).toEqual(
      [one, other]
        .map(({ warm_id }) => ({ warm_id, state: "ready" }))
        .toSorted((a, b) => a.warm_id.localeCompare(b.warm_id)),
    );
    expect([one, other].map(idOf)).toEqual(before);
    expect([dead, broken].map(idOf)).toEqual([undefined, undefined]);
    const fits = boxSpec(one, { entrypoint: ["sh", "-c", "echo $WHOSE; sleep 1; exit 6"], env: { WHOSE: "mine" } });
    expect((await host.put(fits)).json).toMatchObject({ kind: "launched" });
    expect(execFileSync("docker", ["exec", before[0]!, "cat", "/proc/1/comm"]).toString()).toBe("busybox\n");
    await until(async () => (await status(fits))["kind"] === "exited");
    expect(await status(fits)).toMatchObject({ exit: { returncode: 6, oom: false } });
    expect(await mainOutput(fits)).toBe("mine\n");
    const misfit = boxSpec(other, { memory: 64 });
    expect((await host.put(misfit)).json).toMatchObject({ kind: "launched" });
    expect(idOf(other)).toBeUndefined();
    for (const spec of [fits, misfit]) await host.call("DELETE", path(spec));
  });

  it("that are a sandbox's stay its, with its variables, entrypoint and deadline", async () => {
    const [one, other] = (await ready(2)) as [WarmSpec, WarmSpec];
    const script = "echo one $WHOSE; until [ -e /tmp/go ]; do sleep 0.05; done; echo two; exit 9";
    const env = { WHOSE: "mine", LC_ALL: "C" };
    const runs = boxSpec(one, { entrypoint: ["sh", "-c", script], env });
    const idles = boxSpec(other, { env, lifetime_ms: 4_000, generation: 3 });
    for (const spec of [runs, idles]) expect((await host.put(spec)).json).toMatchObject({ kind: "launched" });
    const [id] = [idOf(one)];
    await until(() => taker.last?.warm?.length === 0, REPORT_MS);
    // The grant of nobody, and what the sandbox is given, is for this daemon's eyes only.
    expect(JSON.parse(readFileSync(stateFile(other, "adoption.json"), "utf8"))).toMatchObject({ env, generation: 3 });
    expect(execFileSync("stat", ["-c", "%a", stateFile(other, "adoption.json")]).toString()).toBe("600\n");
    await daemon.restart();
    expect(await status(runs)).toMatchObject({ kind: "running", generation: 1 });
    expect(await status(idles)).toMatchObject({ kind: "running", generation: 3 });
    expect((await host.put(runs)).json).toMatchObject({ kind: "adopted" });
    expect(idOf(one)).toBe(id);
    for (const rest of [{}, { user: "nobody" }, { pty: { rows: 10, cols: 10 } }]) {
      const { output } = await host.exec(path(runs), ["sh", "-c", "echo $WHOSE $LC_ALL"], rest);
      expect(text(output?.stdout).trim()).toBe("mine C");
    }
    // Whoever orders it once more does not get it from under its sandbox.
    taker.standing = { warm: [one] };
    await until(() => state(one) === "failed", REPORT_MS);
    taker.standing = { warm: [] };
    await host.exec(path(runs), ["touch", "/tmp/go"]);
    expect((await host.call("GET", `${path(runs)}/processes/main?wait_ms=5000`)).json).toMatchObject({ returncode: 9 });
    expect(await status(runs)).toMatchObject({ kind: "exited", exit: { returncode: 9, oom: false } });
    expect(await mainOutput(runs)).toBe("one mine\ntwo\n");
    await until(async () => (await status(idles))["kind"] === "exited");
    expect(await status(idles)).toMatchObject({ exit: { returncode: 124, deadline: true } });
    for (const spec of [runs, idles]) await host.call("DELETE", path(spec));
    await until(() => containers().length === 0);
  });

  it("that had ended as a sandbox's have ended as its", async () => {
    const [one] = (await ready(1)) as [WarmSpec];
    const spec = boxSpec(one);
    await host.put(spec);
    await daemon.kill();
    execFileSync("docker", ["kill", `sandbar-${one.warm_id}`]);
    await daemon.start();
    await until(async () => (await status(spec))["kind"] === "exited");
    expect(await status(spec)).toMatchObject({ exit: { returncode: 137, oom: false, deadline: false } });
    await host.call("DELETE", path(spec));
    await until(() => containers().length === 0);
  });

  it("between nobody's and a sandbox's are removed, and it starts anew", async () => {
    const [one] = (await ready(1)) as [WarmSpec];
    const spec = boxSpec(one, { entrypoint: ["sh", "-c", "echo once; sleep 600"] });
    await host.put(spec);
    await daemon.kill();
    expect(existsSync(stateFile(one, "started"))).toBe(true);
    rmSync(stateFile(one, "started"));
    await daemon.start();
    expect(await status(spec)).toEqual({ kind: "gone" });
    expect(idOf(one)).toBeUndefined();
    expect((await host.put(spec)).json).toMatchObject({ kind: "launched" });
    await until(async () => (await mainOutput(spec)) === "once\n");
    await host.call("DELETE", path(spec));
  });

  it("at any moment of a create end up as one sandbox's, whose entrypoint runs once, or are gone", async () => {
    const warm = await ready(6);
    const counts = { gone: 0, running: 0 };
    for (const [round, one] of warm.entries()) {
      const mark = newId("process");
      const spec = boxSpec(one, {
        entrypoint: ["sh", "-c", `echo ${mark} >> /tmp/runs; sleep 600`],
        env: { MARK: mark },
      });
      const answer = host.put(spec).catch(() => undefined);
      await sleep(round * 5);
      await daemon.restart(50);
      await answer;
      const { kind } = await status(spec);
      counts[kind as keyof typeof counts] += 1;
      const again = (await host.put(spec)).json;
      expect(again["kind"]).toBe(kind === "running" ? "adopted" : "launched");
      await until(async () => (await host.exec(path(spec), ["test", "-e", "/tmp/runs"])).returncode === 0);
      expect(text((await host.exec(path(spec), ["cat", "/tmp/runs"])).output?.stdout)).toBe(`${mark}\n`);
      expect(text((await host.exec(path(spec), ["printenv", "MARK"])).output?.stdout)).toBe(`${mark}\n`);
      expect(
        (await host.exec(path(spec), ["sh", "-c", "cat /proc/[0-9]*/cmdline | grep -c 'slee[p]'"])).returncode,
      ).toBe(0);
      await host.call("DELETE", path(spec));
      expect(idOf(one)).toBeUndefined();
    }
    console.log(`killed in the middle of a create: ${counts.gone} started anew, ${counts.running} were the sandbox's`);
    await until(() => containers().length === 0);
  });
});
