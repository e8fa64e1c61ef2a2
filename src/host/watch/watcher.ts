import { closeSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { ApiError } from "../../contract/errors.ts";
import { openWakePipe } from "../linux/wake-pipe.ts";
import type { WatchEvent } from "../../contract/file.ts";
import type { WatchCommand, WatchNews, WatchRefusal } from "./watch-protocol.ts";

/** What becomes of a watch. */
export interface WatchListener {
  ready(): void;
  events(events: WatchEvent[]): void;
  /** The last. */
  ended(error: ApiError | undefined): void;
}

interface Thread {
  worker: Worker;
  /** The end of the wake pipe that is written. */
  wake: number;
}

/** The daemon's side of `watch-thread.ts`, which runs while there is something to watch. */
export class Watcher {
  readonly #listeners = new Map<number, WatchListener>();
  #thread: Thread | undefined;
  #nextKey = 0;

  /** Watches a path below a root, whose descriptor it takes. The answer ends it. */
  open(watch: { root: number; path: string; recursive: boolean }, listener: WatchListener): () => void {
    const key = this.#nextKey++;
    try {
      this.#thread ??= this.#start();
    } catch (error) {
      closeSync(watch.root);
      throw error;
    }
    this.#listeners.set(key, listener);
    this.#command({ kind: "open", key, ...watch });
    return () => {
      if (!this.#listeners.delete(key)) return;
      this.#command({ kind: "close", key });
      this.#endIfIdle();
    };
  }

  #command(command: WatchCommand): void {
    const { worker, wake } = this.#thread!;
    worker.postMessage(command);
    writeSync(wake, "!");
  }

  #start(): Thread {
    const { readEnd: wakeFd, writeEnd: wake } = openWakePipe();
    // It closes what this thread has opened.
    const worker = new Worker(new URL("./watch-thread.ts", import.meta.url), {
      workerData: { wakeFd },
      trackUnmanagedFds: false,
    });
    worker.unref();
    const thread = { worker, wake };
    worker.on("message", (news: WatchNews[]) => news.forEach((one) => this.#hear(one)));
    worker.on("error", (error) => this.#fail(thread, error));
    return thread;
  }

  #hear(news: WatchNews): void {
    const listener = this.#listeners.get(news.key);
    if (!listener) return;
    if (news.kind === "ready") return listener.ready();
    if (news.kind === "events") return listener.events(news.events);
    this.#listeners.delete(news.key);
    listener.ended(news.refusal && errorOf(news.refusal));
    this.#endIfIdle();
  }

  #endIfIdle(): void {
    if (this.#listeners.size > 0 || !this.#thread) return;
    this.#command({ kind: "end" });
    closeSync(this.#thread.wake);
    this.#thread = undefined;
  }

  /** All watches are lost; the next one has a thread of its own. */
  #fail(thread: Thread, error: unknown): void {
    console.error("sandbar host: the thread of the watches failed:", error);
    if (this.#thread !== thread) return;
    this.#thread = undefined;
    closeSync(thread.wake);
    const lost = [...this.#listeners.values()];
    this.#listeners.clear();
    for (const listener of lost) listener.ended(new ApiError("internal"));
  }
}

function errorOf({ code, detail, retryAfter }: WatchRefusal): ApiError {
  return new ApiError(code, {
    ...(detail !== undefined && { detail }),
    ...(retryAfter !== undefined && { retryAfter }),
  });
}
