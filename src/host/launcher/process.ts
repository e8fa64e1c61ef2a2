import { constants, unlink } from "node:fs";
import type { Socket } from "node:net";
import { Writable, type Readable } from "node:stream";
import type { SignalName } from "../../contract/process.ts";
import type { Spawned } from "../runtime.ts";
import { Descriptor, openReader, openWriter, type OpenFifo } from "./fifo.ts";
import { Output } from "./output.ts";

/** Signals a process group from outside; resolves to false when there is none (yet). `pid` is the sandbox's number. */
export type SignalGroup = (pid: number, signal: SignalName) => Promise<boolean>;

export const SLOT_PARTS = ["in", "out", "err", "st", "ack"] as const;
/** A status is three short lines; what says more is not the launcher. */
const MAX_STATUS_BYTES = 4096;
const KILLED = 137;
const SIGNAL_ATTEMPTS = 50;
const SIGNAL_RETRY_MS = 20;

/** How a start went: the program runs, or it was refused with a return code. */
export type Launch = { kind: "running" } | { kind: "refused"; returncode: number };

/** One slot of the launcher in use. */
export class LaunchedProcess implements Spawned {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exited: Promise<number>;
  readonly launched: Promise<Launch>;
  /** Resolves once the launcher has the slot, or has gone. */
  readonly taken: Promise<void>;
  readonly #base: string;
  readonly #signalGroup: SignalGroup;
  readonly #outputs: Output[];
  readonly #keepAlives: Descriptor[];
  readonly #status: Socket;
  readonly #input: Socket;
  readonly #exit = Promise.withResolvers<number>();
  readonly #launch = Promise.withResolvers<Launch>();
  readonly #taken = Promise.withResolvers<void>();
  #ack: Descriptor | undefined;
  #text = "";
  #pid: number | undefined;
  #ended = false;

  /** `base` is the path of the slot's files without their endings. */
  constructor(base: string, signalGroup: SignalGroup) {
    this.#base = base;
    this.#signalGroup = signalGroup;
    const { out, err, status, input } = openFifos(base);
    this.#keepAlives = [out.keepAlive, err.keepAlive, status.keepAlive, input.keepAlive];
    this.#status = status.socket;
    this.#input = input.socket;
    const outputs = [new Output(out.socket), new Output(err.socket)] as const;
    this.#outputs = [...outputs];
    [this.stdout, this.stderr] = outputs;
    this.stdin = inputOf(input.socket);
    this.exited = this.#exit.promise;
    this.launched = this.#launch.promise;
    this.taken = this.#taken.promise;
    status.socket.on("data", (chunk: Buffer) => this.#read(chunk.toString("latin1")));
    status.socket.on("error", () => {});
    status.socket.on("close", () => this.gone());
  }

  async kill(signal: SignalName): Promise<void> {
    for (let attempt = 0; attempt < SIGNAL_ATTEMPTS && !this.#ended; attempt += 1) {
      if (this.#pid !== undefined && (await this.#signalGroup(this.#pid, signal))) return;
      await new Promise((resolve) => setTimeout(resolve, SIGNAL_RETRY_MS));
    }
  }

  /** The launcher has the slot open since an earlier run of this daemon. */
  adopted(): void {
    this.#launch.resolve({ kind: "running" });
    this.#closeKeepAlives();
  }

  /** The launcher's side is no more: whatever has not ended was killed. */
  gone(): void {
    this.#end(KILLED);
    this.#ack?.close();
    this.#closeKeepAlives();
    this.#status.destroy();
    removeSlot(this.#base);
  }

  #read(chunk: string): void {
    this.#text += chunk;
    if (this.#text.length > MAX_STATUS_BYTES) return void this.#status.destroy();
    const lines = this.#text.split("\n");
    this.#text = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    const [, word, digits] = /^(pid|exec|refused|exit)(?: ([0-9]{1,9}))?$/.exec(line) ?? [];
    const number = digits === undefined ? undefined : Number(digits);
    if (word === "exec") this.#launch.resolve({ kind: "running" });
    else if (number === undefined) return;
    else if (word === "pid" && number > 1) {
      this.#pid ??= number;
      this.#taken.resolve();
      this.#closeKeepAlives();
    } else if (word === "refused") this.#launch.resolve({ kind: "refused", returncode: number & 255 });
    else if (word === "exit" && number <= 255) {
      this.#end(number);
      try {
        this.#ack ??= new Descriptor(`${this.#base}.ack`, constants.O_RDWR);
      } catch {
        // The slot is already removed.
      }
      this.#closeKeepAlives();
    }
  }

  #end(returncode: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#taken.resolve();
    this.#launch.resolve({ kind: "running" });
    this.#exit.resolve(returncode);
    for (const output of this.#outputs) output.finish();
    this.#input.destroy();
  }

  #closeKeepAlives(): void {
    for (const descriptor of this.#keepAlives) descriptor.close();
  }
}

/** Removes the files of a slot: a launcher that reads its name later starts nothing. */
export function removeSlot(base: string): void {
  for (const part of [...SLOT_PARTS, "spec"]) unlink(`${base}.${part}`, () => {});
}

/** All of them or, when there are too few descriptors, none. */
function openFifos(base: string): Record<"out" | "err" | "status" | "input", OpenFifo> {
  const opened: OpenFifo[] = [];
  const keep = (fifo: OpenFifo) => (opened.push(fifo), fifo);
  try {
    return {
      out: keep(openReader(`${base}.out`)),
      err: keep(openReader(`${base}.err`)),
      status: keep(openReader(`${base}.st`)),
      input: keep(openWriter(`${base}.in`)),
    };
  } catch (error) {
    for (const { socket, keepAlive } of opened) {
      socket.on("error", () => {}).destroy();
      keepAlive.close();
    }
    throw error;
  }
}

/** Bytes that nobody reads any more are no error: a process may end before its input does. */
function inputOf(socket: Socket): Writable {
  socket.on("error", () => {});
  const writable = new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (socket.destroyed) return done();
      let called = false;
      const once = () => {
        if (!called) done();
        called = true;
      };
      socket.once("close", once);
      socket.write(chunk, () => {
        socket.off("close", once);
        once();
      });
    },
    final(done) {
      socket.destroy();
      done();
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  return writable;
}
