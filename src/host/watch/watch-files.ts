import { ApiError } from "../../contract/errors.ts";
import type { Container } from "../runtime.ts";
import { tooSlow, withTimeLimit } from "../time-limit.ts";
import { EventQueue } from "./event-queue.ts";
import { Watcher } from "./watcher.ts";

const MAX_WATCHES = 32;
/** A big tree is looked through before the first event. */
const READY_TIMEOUT_MS = 30_000;

const watcher = new Watcher();
/** By container: what ends each of its watches. */
const watches = new WeakMap<Container, Set<() => void>>();

/** The events of a watch as they come. Close it. */
export interface WatchedFiles {
  /** The next events, as text; undefined after the last. */
  next(): Promise<string | undefined>;
  close(): void;
}

/**
 * Watches a path of a container, once it is watched. Throws the file errors, `at_capacity` and `payload_too_large` where it is too
 * much, and `unsupported_by_backend` where this daemon cannot see the container's files.
 */
export async function watchFiles(container: Container, path: string, recursive: boolean): Promise<WatchedFiles> {
  const open = watchesOf(container);
  if (open.size >= MAX_WATCHES) {
    throw new ApiError("at_capacity", {
      detail: `A sandbox has at most ${MAX_WATCHES} watches at a time.`,
      retryAfter: 10,
    });
  }
  const root = container.openRoot?.();
  if (root === undefined) {
    throw new ApiError("unsupported_by_backend", {
      detail: "To watch files the host's daemon must run as root, on the machine whose kernel the containers run on.",
    });
  }
  const queue = new EventQueue();
  const ready = Promise.withResolvers<void>();
  const stop = watcher.open(
    { root, path, recursive },
    {
      ready: () => {
        queue.push([{ event: "ready", path }]);
        ready.resolve();
      },
      events: (events) => queue.push(events),
      ended: (error) => {
        if (error) ready.reject(error);
        queue.end(error);
      },
    },
  );
  const close = () => {
    if (!open.delete(close)) return;
    stop();
    queue.end();
    ready.reject(new ApiError("sandbox_ended"));
  };
  open.add(close);
  try {
    await withTimeLimit(ready.promise, READY_TIMEOUT_MS, tooSlow("Looking through the directory"));
  } catch (error) {
    close();
    throw error;
  }
  return { next: () => queue.next(), close };
}

/** They end with the container. */
function watchesOf(container: Container): Set<() => void> {
  const known = watches.get(container);
  if (known) return known;
  const open = new Set<() => void>();
  watches.set(container, open);
  void container.exited.then(() => open.forEach((close) => close()));
  return open;
}
