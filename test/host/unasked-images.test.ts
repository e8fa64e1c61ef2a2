import { mkdtempSync, rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { keepAtDeadline } from "../../src/host/release.ts";
import { Snapshots } from "../../src/host/snapshots.ts";
import { UnaskedImages } from "../../src/host/unasked-images.ts";
import { ChildRuntime } from "./child-runtime.ts";

const DAY_MS = 86_400_000;
let dir: string;
beforeEach(() => (dir = mkdtempSync("/tmp/sandbar-unasked-")));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const newSnapshots = (runtime: ChildRuntime) => new Snapshots(runtime, new UnaskedImages(join(dir, "unasked")));

test("what was kept at a deadline is told of only once it was asked for, also over a restart", async () => {
  const runtime = new ChildRuntime();
  const endImage = newId("image");
  const spec = {
    sandbox_id: newId("sandbox"),
    environment: "main",
    generation: 1,
    image: "host",
    env: {},
    raw_ports: [],
  };
  const container = await runtime.start({ ...spec, lifetime_ms: 60_000, end_image: endImage });
  const snapshots = newSnapshots(runtime);
  await keepAtDeadline(snapshots, container);
  expect(await runtime.listImages()).toEqual([endImage]);
  for (const each of [snapshots, newSnapshots(runtime)]) expect(await each.list()).toEqual([]);
  const containers = {
    use: async () => Promise.reject(new Error("it has ended")),
    stop: async () => undefined,
    isRunning: () => false,
  };
  const target = { repository: "main/snapshots", tag: endImage, token: "t" };
  await snapshots.take(containers, spec.sandbox_id, endImage, { generation: 1, stop: true, target }, 1000);
  for (const each of [snapshots, newSnapshots(runtime)]) expect(await each.list()).toEqual([endImage]);
});

test("what nobody asks for in a week is as any other", () => {
  const [old, young] = [newId("image"), newId("image")];
  const unasked = new UnaskedImages(dir);
  unasked.add(old);
  unasked.add(young);
  const then = (Date.now() - 8 * DAY_MS) / 1000;
  utimesSync(join(dir, old), then, then);
  expect(new UnaskedImages(dir).without([old, young])).toEqual([old]);
});
