import { constants, mkdirSync, mkdtempSync, openSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { WatchEvent } from "../../src/contract/file.ts";
import { O_PATH } from "../../src/host/linux/confined.ts";
import { EventQueue } from "../../src/host/watch/event-queue.ts";
import { MAX_EVENTS, Teller } from "../../src/host/watch/teller.ts";
import { MAX_DIRECTORIES } from "../../src/host/watch/tree.ts";
import { Watch } from "../../src/host/watch/watch.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { SignedHost, until } from "./signed-host.ts";

let dir: string;
let watch: Watch | undefined;
beforeEach(() => (dir = mkdtempSync("/dev/shm/sandbar-watch-")));
afterEach(() => {
  watch?.close();
  watch = undefined;
  rmSync(dir, { recursive: true });
});

const open = () => {
  const root = openSync(dir, O_PATH | constants.O_DIRECTORY);
  watch = new Watch({ root, path: "/", recursive: true, onQueue: () => {} });
  return watch;
};
const told: WatchEvent[] = [];
/** Lets it work until an event has come. */
const seen = async (of: Watch, event: Partial<WatchEvent>) => {
  told.length = 0;
  await until(() => {
    told.push(...of.work(performance.now()).events);
    return told.some((one) => one.event === event.event && one.path === event.path);
  });
};
const descriptors = () => readdirSync("/proc/self/fd").length;

test("a tree of too many directories is refused, and leaves no descriptor", () => {
  for (let i = 0; i < MAX_DIRECTORIES; i++) mkdirSync(`${dir}/${i}`);
  const before = descriptors();
  expect(open).toThrow(expect.objectContaining({ code: "payload_too_large" }));
  expect(descriptors()).toBe(before);
});
test("a tree that grows too big ends its watch", async () => {
  for (let i = 0; i < MAX_DIRECTORIES - 2; i++) mkdirSync(`${dir}/${i}`);
  const growing = open();
  mkdirSync(`${dir}/fits`);
  await seen(growing, { event: "create", path: "/fits" });
  for (let i = 0; i < 3; i++) mkdirSync(`${dir}/more${i}`);
  await expect(async () => {
    for (;;) growing.work(performance.now());
  }).rejects.toMatchObject({ code: "payload_too_large" });
});
test("what the kernel has no room for is told as an overflow, and the watch goes on", async () => {
  mkdirSync(`${dir}/a`);
  const flooded = open();
  // More than the kernel keeps, while nothing is read.
  for (let i = 0; i < 20_000; i++) writeFileSync(`${dir}/a/${i}`, "");
  mkdirSync(`${dir}/untold/deep`, { recursive: true });
  await seen(flooded, { event: "overflow" });
  // What was lost is looked at anew a moment later, and told so once more.
  while (flooded.dueAt !== Infinity) flooded.work(performance.now());
  writeFileSync(`${dir}/untold/deep/after`, "");
  await seen(flooded, { event: "create", path: "/untold/deep/after" });
});
test("directories that swap names while they are looked at are still told of by their own", async () => {
  mkdirSync(`${dir}/a/in`, { recursive: true });
  const swapped = open();
  for (let i = 0; i < 50; i++) {
    mkdirSync(`${dir}/x/y`, { recursive: true });
    renameSync(`${dir}/x`, `${dir}/a/x${i}`);
    renameSync(`${dir}/a`, `${dir}/b`);
    mkdirSync(`${dir}/c/y`, { recursive: true });
    renameSync(`${dir}/b`, `${dir}/a`);
    renameSync(`${dir}/c`, `${dir}/a/in/c${i}`);
    if (i % 7 === 0) swapped.work(performance.now());
  }
  for (let quiet = 0; quiet < 20;) {
    quiet = swapped.work(performance.now()).events.length > 0 ? 0 : quiet + 1;
    await new Promise((wake) => setTimeout(wake, 10));
  }
  for (const path of ["/a/x0/y", "/a/x49/y", "/a/in/c0/y", "/a/in/c49/y", "/a/in", "/a"]) {
    writeFileSync(`${dir}${path}/new`, "");
    await seen(swapped, { event: "create", path: `${path}/new` });
  }
});
test("who reads too slowly is told so", async () => {
  const queue = new EventQueue();
  queue.push([{ event: "ready", path: "/" }]);
  expect(await queue.next()).toBe('event: ready\ndata: {"path":"/"}\n\n');
  for (let i = 0; i <= MAX_EVENTS; i++) queue.push([{ event: "create", path: `/${i}` }]);
  queue.push([{ event: "remove", path: "/last" }]);
  expect(await queue.next()).toBe('event: overflow\ndata: {}\n\nevent: remove\ndata: {"path":"/last"}\n\n');
  queue.end();
  expect(await queue.next()).toBeUndefined();
  expect(await queue.next()).toBeUndefined();
});
test("what is modified is told in its order", () => {
  const teller = new Teller();
  teller.modify("/a", 0);
  teller.modify("/b", 10);
  teller.modify("/a", 20);
  expect(teller.take(50)).toEqual([]);
  teller.rename("/a", "/c");
  teller.remove("/b");
  expect(teller.take(60).map(({ event, path }) => `${event} ${path}`)).toEqual([
    "modify /a",
    "modify /b",
    "rename /c",
    "remove /b",
  ]);
  for (let i = 0; i <= MAX_EVENTS; i++) teller.modify(`/${i}`, 100);
  expect(teller.take(100)).toEqual([{ event: "overflow" }]);
  expect(teller.dueAt).toBe(Infinity);
});

test("files that this machine does not show cannot be watched", async () => {
  const host = await SignedHost.start(new ChildRuntime());
  const box = await host.sandbox();
  const answer = await host.call("GET", `${box}/files/watch?path=/tmp`);
  expect([answer.status, answer.json.code]).toEqual([422, "unsupported_by_backend"]);
  await host.daemon.close({ stopContainers: true });
});
