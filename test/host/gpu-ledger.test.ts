import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { HostInfo } from "../../src/contract/host-info.ts";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { newEntry } from "../../src/host/container-entry.ts";
import { GpuLedger } from "../../src/host/gpu-ledger.ts";
import { launch } from "../../src/host/launch.ts";
import { Volumes } from "../../src/host/volumes/volumes.ts";
import type { WarmShelf } from "../../src/host/warm/shelf.ts";
import { WarmStarts } from "../../src/host/warm/starts.ts";
import { noNetworks } from "./no-networks.ts";
import { ChildContainer, ChildRuntime } from "./child-runtime.ts";
import { SignedHost, until } from "./signed-host.ts";
import { StandInGpus } from "./stand-in-gpus.ts";

const gpus = new StandInGpus(2);
const path = process.env["PATH"];
const [one, other] = gpus.uuids as [string, string];
let runtime: ChildRuntime;
let host: SignedHost;

beforeAll(() => void (process.env["PATH"] = gpus.path));
afterAll(() => {
  process.env["PATH"] = path;
  gpus.remove();
});
beforeEach(async () => {
  runtime = new ChildRuntime();
  host = await SignedHost.start(runtime);
  return () => host.daemon.close({ stopContainers: true });
});

const put = (...uuids: string[]) => host.put(host.spec({ gpus: uuids }));
const refused = async (...uuids: string[]) => {
  const { status, json } = await put(...uuids);
  return [status, json["code"], json["detail"]];
};
const held = () => host.daemon.containers.list().flatMap((container) => container.gpus ?? []);
const remove = ({ sandbox_id, generation }: StartSpec) =>
  host.call("DELETE", `/v1/sandboxes/${sandbox_id}?generation=${generation}`);

test("the host says what it has", async () => {
  const info = (await host.call("GET", "/v1/info")).json as unknown as HostInfo;
  expect(info.capabilities.gpu).toBe(true);
  expect(info.capacity!.gpus.map(({ uuid }) => uuid)).toEqual(gpus.uuids);
});

test("a device that is in use, unknown or asked for twice is refused, and nothing is taken", async () => {
  const spec = host.spec({ gpus: [one] });
  expect((await host.put(spec)).json["kind"]).toBe("launched");
  expect((await host.put(spec)).json["kind"]).toBe("adopted");
  expect(await refused(other, one)).toEqual([409, "conflict", `The GPU ${one} is in use by ${spec.sandbox_id}.`]);
  expect(await refused(other, "GPU-none")).toEqual([409, "conflict", "This host has no GPU GPU-none."]);
  expect(await refused(other, other)).toEqual([409, "conflict", "A GPU is asked for twice."]);
  expect(runtime.started.length).toBe(1);
  expect(held()).toEqual([one]);
  expect((await put(other)).json["kind"]).toBe("launched");
});

test("of two starts at the same time one has the device", async () => {
  runtime.startDelayMs = 50;
  const answers = await Promise.all([put(one), put(one), put(one)]);
  expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 409, 409]);
});

test("a device is free after a start that failed", async () => {
  expect((await host.put(host.spec({ gpus: [one], image: "missing" }))).json["kind"]).toBe("failed");
  expect((await put(one)).json["kind"]).toBe("launched");
});

test("a start that is deleted under way gives back what it had", async () => {
  runtime.startDelayMs = 100;
  const spec = host.spec({ gpus: [one] });
  const starting = host.put(spec);
  await until(() => held().length > 0);
  await remove(spec);
  await starting;
  expect(held()).toEqual([]);
  expect((await put(one)).json["kind"]).toBe("launched");
});

test("a newer generation takes over what the older had", async () => {
  const spec = host.spec({ gpus: [one] });
  await host.put(spec);
  expect((await host.put({ ...spec, generation: 2, gpus: [one, other] })).json["kind"]).toBe("launched");
  expect(host.daemon.containers.list()).toEqual([
    { sandbox_id: spec.sandbox_id, generation: 2, running: true, gpus: [one, other] },
  ]);
  expect(runtime.started[0]!.isStopped).toBe(true);
});

test("what does not go away keeps its device until it has gone", async () => {
  const spec = host.spec({ gpus: [one] });
  await host.put(spec);
  runtime.stopFailures = 3;
  runtime.started[0]!.end(0);
  await until(() => runtime.stopFailures < 3);
  expect(held()).toEqual([one]);
  expect((await put(one)).status).toBe(409);
  await until(() => held().length === 0);
  const next = host.spec({ gpus: [one] });
  expect((await host.put(next)).json["kind"]).toBe("launched");

  runtime.stopFailures = 5;
  expect((await remove(next)).status).toBe(503);
  expect((await put(one)).status).toBe(409);
  expect(held()).toEqual([one]);
  expect((await remove(next)).status).toBe(204);
  expect(held()).toEqual([]);
});

test("the next daemon knows who has what, and what ended meanwhile gives it back", async () => {
  const spec = { sandbox_id: newId("sandbox"), generation: 3, lifetime_ms: 60_000, gpus: [one] };
  const container = new ChildContainer(spec);
  runtime = new ChildRuntime();
  runtime.left = [container];
  const next = await SignedHost.start(runtime);
  expect(next.daemon.containers.list()).toEqual([
    { sandbox_id: spec.sandbox_id, generation: 3, running: true, gpus: [one] },
  ]);
  expect((await next.put(next.spec({ gpus: [one] }))).status).toBe(409);
  container.end(0);
  await until(() => next.daemon.containers.list()[0]!.gpus === undefined);
  expect((await next.put(next.spec({ gpus: [one] }))).json["kind"]).toBe("launched");
  await next.daemon.close({ stopContainers: true });
});

test("a start that comes after its time has its device until what came is gone", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const ledger = new GpuLedger({ present: () => [one] });
    const spec = host.spec({ gpus: [one] });
    const entry = newEntry(spec.sandbox_id, 1);
    const coming = Promise.withResolvers<ChildContainer>();
    runtime.start = () => coming.promise;
    const volumes = new Volumes({ dir: "/nowhere" });
    const networks = noNetworks();
    const launching = launch({ runtime, gpus: ledger, volumes, networks, spec, entry, older: undefined });
    entry.started = launching.then(() => undefined as never);
    entry.started.catch(() => {});
    const late = expect(launching).rejects.toThrow("did not start in time");
    await vi.advanceTimersByTimeAsync(15 * 60_000);
    await late;
    expect(ledger.heldBy(entry)).toEqual([one]);
    const container = new ChildContainer(spec, runtime);
    runtime.stopFailures = 1;
    coming.resolve(container);
    await vi.advanceTimersByTimeAsync(10);
    expect([container.isStopped, ledger.holders()]).toEqual([false, [entry]]);
    await vi.advanceTimersByTimeAsync(1_000);
    expect([container.isStopped, ledger.holders()]).toEqual([true, []]);
  } finally {
    vi.useRealTimers();
  }
});

test("a warm container gives its devices to a sandbox, and takes none from anybody", async () => {
  const ledger = new GpuLedger({ present: () => [one, other] });
  const freeWarm = ledger.takeWarm("wm-a", [one]);
  expect(() => ledger.takeWarm("wm-b", [one])).toThrow("in use by wm-a");
  expect([ledger.holders(), ledger.warmHolders([one, other]), ledger.warmHolders([other])]).toEqual([[], ["wm-a"], []]);
  const sandbox = { sandboxId: "sb-a", generation: 1 };
  const free = ledger.take(sandbox, [one]);
  // While both have it nobody else gets it, and once the warm one is gone it is the sandbox's alone.
  expect(() => ledger.take({ sandboxId: "sb-b", generation: 1 }, [one])).toThrow("in use by sb-a");
  freeWarm();
  expect([ledger.heldBy(sandbox), ledger.warmHolders([one])]).toEqual([[one], []]);
  expect(() => ledger.takeWarm("wm-c", [one])).toThrow("in use by sb-a");
  free();
  ledger.takeWarm("wm-c", [one]);
});

test("a sandbox does not start beside a warm container that still has its devices", async () => {
  const ledger = new GpuLedger({ present: () => [one] });
  const started = vi.fn(async () => new ChildContainer(host.spec()));
  const leaving = { evict: async () => {}, take: async () => undefined, makeWay: () => () => {} };
  const starts = new WarmStarts({ start: started, recover: async () => [] }, leaving as unknown as WarmShelf, ledger);
  const free = ledger.takeWarm("wm-a", [one]);
  await expect(starts.start(host.spec({ gpus: [one] }))).rejects.toMatchObject({ code: "conflict" });
  expect(started).not.toHaveBeenCalled();
  free();
  await starts.start(host.spec({ gpus: [one] }));
  expect(started).toHaveBeenCalledOnce();
});
