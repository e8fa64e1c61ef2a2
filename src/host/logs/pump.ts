import { closeSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { Epoll } from "../linux/libc.ts";
import { openWakePipe } from "../linux/wake-pipe.ts";
import { MAX_STREAMS, type PumpCommand, type PumpMemory, type PumpNews } from "./pump-protocol.ts";

/** What becomes of a stream that the pump carries. */
export interface PumpListener {
  grown(length: number): void;
  held(isDiskFull: boolean): void;
  /** The answer to a `look`, unless it has `ended`. `isHeld`: what is in the pipe is not kept, and will not be before a `resume`. */
  looked(isHeld: boolean): void;
  ended(): void;
}

/** A stream in the care of the pump. */
export interface PumpedStream {
  /** Bytes beyond this length stay in the pipe. */
  setLimit(length: number): void;
  /** Goes on after `held`. */
  resume(): void;
  /** Asks whether what is in the pipe now is kept. */
  look(): void;
  /** Keeps no more, but reads on to the end. */
  discard(): void;
  close(): void;
}

interface Thread {
  worker: Worker;
  /** The end of the wake pipe that is written. */
  wake: number;
  epoll: Epoll;
}

/** The daemon's side of `pump-thread.ts`. One a daemon; started with the first stream. */
export class Pump {
  readonly #listeners = new Map<number, PumpListener>();
  readonly #lengths = new Map<number, number>();
  readonly #freeKeys: number[] = [];
  readonly #memory: PumpMemory = {
    lengths: new BigInt64Array(new SharedArrayBuffer(8 * MAX_STREAMS)),
    limits: new BigInt64Array(new SharedArrayBuffer(8 * MAX_STREAMS)),
    notice: new Int32Array(new SharedArrayBuffer(4)),
  };
  #nextKey = 0;
  #thread: Thread | undefined;

  /** Takes over the reading end of a pipe; it is closed at its end. `base` and `length`: see `segments.ts`. */
  open(fd: number, base: string, length: number, listener: PumpListener): PumpedStream {
    const key = this.#freeKeys.pop() ?? this.#nextKey++;
    if (key >= MAX_STREAMS) {
      closeSync(fd);
      throw new Error(`More than ${MAX_STREAMS} outputs are open on this host.`);
    }
    this.#listeners.set(key, listener);
    this.#lengths.set(key, length);
    Atomics.store(this.#memory.lengths, key, BigInt(length));
    Atomics.store(this.#memory.limits, key, BigInt(Number.MAX_SAFE_INTEGER));
    this.#thread ??= this.#start();
    this.#thread.worker.postMessage({ kind: "open", key, fd, base, length } satisfies PumpCommand);
    // Watched from here on: the thread need not be woken for a pipe in which there is nothing yet.
    this.#thread.epoll.add(fd, key);
    const command = (kind: "resume" | "look" | "discard" | "close") => {
      if (this.#listeners.get(key) === listener) this.#command({ kind, key });
    };
    return {
      setLimit: (limit) => {
        if (this.#listeners.get(key) === listener) Atomics.store(this.#memory.limits, key, BigInt(limit));
      },
      resume: () => command("resume"),
      look: () => command("look"),
      discard: () => command("discard"),
      close: () => {
        command("close");
        // Its key is free once the thread has let go of it, too.
        if (this.#listeners.get(key) === listener) this.#listeners.delete(key);
      },
    };
  }

  /** Ends the thread; what is in the pipes stays there. */
  async end(): Promise<void> {
    if (!this.#thread) return;
    const { worker, wake, epoll } = this.#thread;
    const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
    worker.ref();
    this.#command({ kind: "end" });
    this.#thread = undefined;
    await exited;
    closeSync(wake);
    closeSync(epoll.fd);
  }

  #command(command: PumpCommand): void {
    this.#thread ??= this.#start();
    this.#thread.worker.postMessage(command);
    writeSync(this.#thread.wake, "!");
  }

  #start(): Thread {
    const { readEnd: wakeFd, writeEnd: wake } = openWakePipe();
    const epoll = new Epoll();
    const worker = new Worker(new URL("./pump-thread.ts", import.meta.url), {
      workerData: { wakeFd, epollFd: epoll.fd, memory: this.#memory },
      // It closes what this thread has opened.
      trackUnmanagedFds: false,
    });
    worker.unref();
    worker.on("message", (news: PumpNews[]) => news.forEach((one) => this.#hear(one)));
    // Without it no output is kept: the daemon ends, and the next one takes the pipes up where they are.
    worker.on("error", (error) => {
      throw error;
    });
    return { worker, wake, epoll };
  }

  #hear(news: PumpNews): void {
    // What was moved before the news is part of it.
    this.#noteGrowth();
    if (news.kind === "grown") return;
    const listener = this.#listeners.get(news.key);
    if (news.kind === "held") return listener?.held(news.isDiskFull);
    if (news.kind === "looked") return listener?.looked(news.isHeld);
    this.#listeners.delete(news.key);
    this.#lengths.delete(news.key);
    this.#freeKeys.push(news.key);
    listener?.ended();
  }

  #noteGrowth(): void {
    Atomics.store(this.#memory.notice, 0, 0);
    for (const [key, before] of this.#lengths) {
      const length = Number(Atomics.load(this.#memory.lengths, key));
      if (length === before) continue;
      this.#lengths.set(key, length);
      this.#listeners.get(key)?.grown(length);
    }
  }
}
