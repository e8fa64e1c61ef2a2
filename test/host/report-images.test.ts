import { mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { HostReport } from "../../src/contract/host-report.ts";
import { newId } from "../../src/contract/ids.ts";
import { HostKeys } from "../../src/host/host-keys.ts";
import { ReferenceCensus } from "../../src/host/inventory/reference-census.ts";
import { Reporter } from "../../src/host/report.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { ReportTaker } from "./report-taker.ts";
import { SignedHost, until } from "./signed-host.ts";

const MINUTE_MS = 60_000;

const runtime = new ChildRuntime();
const said: string[] = [];
let taker: ReportTaker;
let host: SignedHost;
let reporter: Reporter;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() });
  for (const emptied of [runtime.images, runtime.stuckImages]) emptied.clear();
  runtime.listFailure = undefined;
  runtime.listDelay = undefined;
  said.length = 0;
  taker = await ReportTaker.start();
  host = await SignedHost.start(runtime);
  const { kind, defaultImage: default_image, capabilities } = runtime;
  reporter = new Reporter({
    controlPlaneUrl: taker.url,
    keys: new HostKeys(mkdtempSync("/tmp/sandbar-keys-"), { hostId: host.hostId, hostKey: host.key, keyVersion: 1 }),
    advertiseUrl: host.daemon.url,
    info: { host_id: host.hostId, version: "0.0.0", runtime: kind, default_image, capabilities },
    containers: host.daemon.containers,
    images: { list: () => runtime.listImages(), remove: (imageId) => runtime.removeImage(imageId) },
    references: new ReferenceCensus(() => runtime.listReferences()),
    diskFree: async () => 1000,
    log: (line) => said.push(line),
  });
});
afterEach(async () => {
  vi.useRealTimers();
  reporter.stop();
  taker.close();
  await host.daemon.close({ stopContainers: true });
});

/** One more report, so much later. */
async function reportAfter(ms: number): Promise<HostReport> {
  vi.setSystemTime(Date.now() + ms);
  const report = async () => {
    const { length } = taker.reports;
    reporter.soon();
    await until(() => taker.reports.length > length);
    // Its answer is on its way, and counts before the clock is put on.
    await sleep(50);
    return taker.reports[length]!;
  };
  const first = await report();
  // Images are counted beside the reports: what is due is in the one behind.
  return first.images ? first : report();
}

function keepImages(count: number): string[] {
  for (let i = 0; i < count; i++) runtime.images.set(newId("image"), undefined);
  return [...runtime.images.keys()].toSorted();
}

test("snapshots are told of once a minute", async () => {
  const [one, other] = keepImages(2);
  expect((await reportAfter(0)).images).toEqual([one, other]);
  for (let i = 0; i < 3; i++) expect((await reportAfter(MINUTE_MS / 4)).images).toBeUndefined();
  expect((await reportAfter(MINUTE_MS / 4 + 1)).images).toEqual([one, other]);
});

test("a report tells of the room on the disk and of other images", async () => {
  const first = await reportAfter(0);
  expect(first.disk_free).toBe(1000);
  const told = [...taker.reports].map(({ references }) => references).filter((references) => references);
  expect(told).toEqual([["debian:bookworm-slim"]]);
});

test("of more than a report takes all are told of by turns", async () => {
  const all = keepImages(1203);
  const turns = [await reportAfter(0)];
  for (let i = 0; i < 3; i++) turns.push(await reportAfter(MINUTE_MS + 1));
  expect(turns.map(({ images }) => images!.length)).toEqual([500, 500, 203, 500]);
  expect(turns.slice(0, 3).flatMap(({ images }) => images)).toEqual(all);
  expect(turns[3]!.images).toEqual(all.slice(0, 500));
});

test("what the control plane drops is removed, and the rest stays", async () => {
  const [one, other, third] = keepImages(3);
  taker.orders.push({ drop_images: [one!, third!] });
  await reportAfter(0);
  await until(() => runtime.images.size === 1);
  expect([...runtime.images.keys()]).toEqual([other]);
  expect((await reportAfter(MINUTE_MS + 1)).images).toEqual([other]);
  expect(said).toEqual([expect.stringMatching(`removing ${one}:`), expect.stringMatching(`removing ${third}:`)]);
});

test("an image that stays stops neither the others nor the containers' end nor the next report", async () => {
  const [one, other] = keepImages(2);
  runtime.stuckImages.add(one!);
  const box = await host.sandbox();
  const { sandboxId: sandbox_id } = runtime.started.at(-1)!;
  taker.orders.push({ drop_images: [one!, other!], reap: [{ sandbox_id, generation: 1 }] });
  await reportAfter(0);
  await until(() => !runtime.images.has(other!));
  await until(async () => (await host.call("GET", box)).json["kind"] === "gone");
  expect((await reportAfter(MINUTE_MS + 1)).images).toEqual([one]);
  expect(said).toContainEqual(expect.stringMatching(`${one} stays: .*the image is stuck`));
});

test("an engine that does not answer holds up no report", async () => {
  keepImages(1);
  runtime.listDelay = new Promise(() => undefined);
  const begun = performance.now();
  expect((await reportAfter(0)).images).toBeUndefined();
  expect((await reportAfter(MINUTE_MS + 1)).images).toBeUndefined();
  expect(performance.now() - begun).toBeLessThan(3_000);
});

test("a report goes out though the images cannot be listed, and later with them", async () => {
  const all = keepImages(2);
  runtime.listFailure = new Error("the engine is away");
  const begun = performance.now();
  expect((await reportAfter(0)).images ?? []).toEqual([]);
  // And not with the next one.
  expect(performance.now() - begun).toBeLessThan(3_000);
  runtime.listFailure = undefined;
  expect((await reportAfter(MINUTE_MS + 1)).images).toEqual(all);
});
