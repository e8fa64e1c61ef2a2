import { closeSync, readSync } from "node:fs";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { asApiError } from "../../contract/errors.ts";
import { Epoll } from "../linux/libc.ts";
import { Watch } from "./watch.ts";
import type { WatchCommand, WatchNews, WatchRefusal } from "./watch-protocol.ts";

/**
 * The thread that watches. It waits in the kernel, for all watches at once: a wait in the thread pool would take one of its few threads
 * from every file that the daemon reads, and a directory of many thousands is looked through here at nobody else's cost.
 */
const WAKE_KEY = 0xffff_ffff;
/** The thread looks up now and then, so that it can be ended. */
const WAIT_MS = 1_000;

const { wakeFd } = workerData as { wakeFd: number };
const port = parentPort!;
const epoll = new Epoll();
const watches = new Map<number, Watch>();
const wakeBytes = Buffer.alloc(256);
let untold: WatchNews[] = [];
let isEnding = false;

epoll.add(wakeFd, WAKE_KEY);
while (!isEnding) {
  const ready = epoll.wait(Math.ceil(Math.max(0, Math.min(WAIT_MS, nextDueAt() - performance.now()))));
  const now = performance.now();
  const keys = new Set(ready.map(({ key }) => key));
  for (const [key, watch] of watches) if (keys.has(key) || watch.dueAt <= now) work(key, watch, now);
  if (keys.has(WAKE_KEY)) {
    readSync(wakeFd, wakeBytes);
    obey();
  }
  if (untold.length > 0) port.postMessage(untold);
  untold = [];
}
for (const watch of watches.values()) watch.close();
closeSync(epoll.fd);
closeSync(wakeFd);

function nextDueAt(): number {
  let dueAt = Infinity;
  for (const watch of watches.values()) dueAt = Math.min(dueAt, watch.dueAt);
  return dueAt;
}

function obey(): void {
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
    const command = next.message as WatchCommand;
    if (command.kind === "end") isEnding = true;
    else if (command.kind === "open") open(command);
    else close(command.key);
  }
}

function open({ key, root, path, recursive }: Extract<WatchCommand, { kind: "open" }>): void {
  let queue: number | undefined;
  const onQueue = (fd: number | undefined) => {
    if (queue !== undefined) epoll.remove(queue);
    queue = fd;
    if (fd !== undefined) epoll.add(fd, key);
  };
  try {
    watches.set(key, new Watch({ root, path, recursive, onQueue }));
    untold.push({ kind: "ready", key });
  } catch (error) {
    untold.push({ kind: "ended", key, refusal: refusalOf(error) });
  }
}

function work(key: number, watch: Watch, now: number): void {
  try {
    const { events, isOver } = watch.work(now);
    if (events.length > 0) untold.push({ kind: "events", key, events });
    if (!isOver) return;
    untold.push({ kind: "ended", key });
  } catch (error) {
    untold.push({ kind: "ended", key, refusal: refusalOf(error) });
  }
  close(key);
}

function close(key: number): void {
  watches.get(key)?.close();
  watches.delete(key);
}

function refusalOf(error: unknown): WatchRefusal {
  const known = asApiError(error);
  if (known) return { code: known.code, detail: known.detail, retryAfter: known.retryAfter };
  console.error("sandbar host: a watch failed:", error);
  return { code: "internal" };
}
