import { constants } from "node:fs";
import type { Socket } from "node:net";
import type { Writable } from "node:stream";
import type { SignalName, TerminalSize } from "../../contract/process.ts";
import type { Terminal } from "../linux/terminal.ts";
import { NO_OUTPUT, type ProcessOutput, type Spawned } from "../runtime.ts";
import { Descriptor, FifoReader, FifoWriter } from "./fifo.ts";
import { inputOf, noInput } from "./input.ts";
import { removePart, removeSlot, type SlotParts } from "./slot.ts";

/** Signals a process group from outside; resolves to false when there is none (yet). `pid` is the sandbox's number. */
export type SignalGroup = (pid: number, signal: SignalName) => Promise<boolean>;

/** A status is a few short lines; what says more is not the launcher. */
const MAX_STATUS_BYTES = 16_384;
const SIGNAL_ATTEMPTS = 200;
const SIGNAL_RETRY_MS = 20;

/** How a start went: the program runs, or it was refused with a return code. */
export type Launch = { kind: "running" } | { kind: "refused"; returncode: number; reason: string };

export interface SlotInUse {
  /** Path of the slot's files without their endings. */
  base: string;
  parts: SlotParts;
  signalGroup: SignalGroup;
  /** In the place of pipes. */
  terminal?: Terminal | undefined;
  isBulk?: boolean | undefined;
}

/** One slot of the launcher in use. */
export class LaunchedProcess implements Spawned {
  readonly stdin: Writable;
  readonly stdout: ProcessOutput;
  readonly stderr: ProcessOutput;
  readonly exited: Promise<number | undefined>;
  readonly launched: Promise<Launch>;
  /** True once the launcher has the slot, false when it has gone before. */
  readonly taken: Promise<boolean>;
  /** Nothing takes its input: it was lost with an earlier daemon. */
  readonly isInputLost: boolean;
  readonly resize?: (size: TerminalSize) => Promise<void>;
  readonly #slot: SlotInUse;
  readonly #outputs: FifoReader[] = [];
  readonly #input: FifoWriter | undefined;
  readonly #status: Socket;
  readonly #statusFifo: FifoReader;
  readonly #ack: Descriptor;
  readonly #hold: Descriptor | undefined;
  readonly #exit = Promise.withResolvers<number | undefined>();
  readonly #launch = Promise.withResolvers<Launch>();
  readonly #taken = Promise.withResolvers<boolean>();
  #text = "";
  #pid: number | undefined;
  #statusBytes = 0;
  #ended = false;
  #closed = false;

  /** Throws, and leaves nothing open, when there are too few descriptors. */
  constructor(slot: SlotInUse) {
    this.#slot = slot;
    const { base, parts, terminal } = slot;
    const open: { close(): void }[] = [];
    const keep = <T extends { close(): void }>(one: T): T => (open.push(one), one);
    try {
      this.#statusFifo = keep(new FifoReader(`${base}.st`));
      // Held open from the start: what is written there must wait for its reader.
      this.#ack = keep(new Descriptor(`${base}.ack`, constants.O_RDWR));
      this.#hold = parts.has("hold") ? keep(new Descriptor(`${base}.hold`, constants.O_RDWR)) : undefined;
      this.#input = parts.has("in") ? keep(new FifoWriter(`${base}.in`)) : undefined;
      const output = (part: "out" | "err") => {
        if (!parts.has(part)) return NO_OUTPUT;
        const fifo = keep(new FifoReader(`${base}.${part}`));
        this.#outputs.push(fifo);
        return fifo;
      };
      this.stdout = terminal?.output ?? output("out");
      this.stderr = terminal ? NO_OUTPUT : output("err");
    } catch (error) {
      for (const one of open) one.close();
      throw error;
    }
    if (slot.isBulk) for (const pipe of [this.#input, ...this.#outputs]) pipe?.grow();
    this.stdin = terminal?.input ?? (this.#input ? inputOf(this.#input.socket, () => this.#endInput()) : noInput());
    this.isInputLost = !terminal && !this.#input;
    if (terminal) this.resize = async (size) => terminal.resize(size);
    this.exited = this.#exit.promise;
    this.launched = this.#launch.promise;
    this.taken = this.#taken.promise;
    this.#status = this.#statusFifo.stream() as Socket;
    this.#status.on("data", (chunk: Buffer) => this.#read(chunk.toString("latin1")));
    this.#status.on("error", () => {});
    this.#status.on("close", () => this.gone());
  }

  async kill(signal: SignalName): Promise<void> {
    for (let attempt = 0; attempt < SIGNAL_ATTEMPTS && !this.#ended; attempt += 1) {
      if (this.#pid !== undefined && (await this.#slot.signalGroup(this.#pid, signal))) return;
      await new Promise((resolve) => setTimeout(resolve, SIGNAL_RETRY_MS));
    }
  }

  /** What finds the process group again, once it is known. */
  get handle(): string {
    return String(this.#pid ?? "");
  }

  /**
   * The launcher has had the slot since an earlier run of this daemon, which may have read how it ended and not lived to
   * keep it: the launcher says it again. Where it has gone the status is at its end.
   */
  adopted(pid: number | undefined): void {
    this.#pid = pid;
    this.#launch.resolve({ kind: "running" });
    if (pid === undefined) this.#closeKeepAlives();
    else this.#begun();
    this.#ack.write("again\n");
  }

  /** The launcher's side is no more: whatever has not ended went with it. */
  gone(): void {
    this.#taken.resolve(false);
    this.#end(undefined);
    this.#close();
  }

  release(): void {
    this.#close();
  }

  #read(chunk: string): void {
    this.#statusBytes += chunk.length;
    if (this.#statusBytes > MAX_STATUS_BYTES) return void this.#status.destroy();
    this.#text += chunk;
    const lines = this.#text.split("\n");
    this.#text = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    const [, word, digits, reason = ""] = /^(pid|exec|refused|exit)(?: ([0-9]{1,9})(?: (.*))?)?$/.exec(line) ?? [];
    const number = digits === undefined ? undefined : Number(digits);
    if (word === "exec") this.#launch.resolve({ kind: "running" });
    else if (number === undefined) return;
    else if (word === "pid" && number > 1) {
      this.#pid ??= number;
      this.#begun();
    } else if (word === "refused") this.#launch.resolve({ kind: "refused", returncode: number & 255, reason });
    else if (word === "exit" && number <= 255) this.#end(number);
  }

  /** Both sides of every pipe are there. */
  #begun(): void {
    this.#taken.resolve(true);
    this.#closeKeepAlives();
  }

  #closeKeepAlives(): void {
    this.#statusFifo.closeKeepAlive();
    for (const output of this.#outputs) output.closeKeepAlive();
    this.#input?.closeKeepAlive();
  }

  #end(returncode: number | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#begun();
    this.#launch.resolve({ kind: "running" });
    this.#exit.resolve(returncode);
    this.#slot.terminal?.finish();
    this.#input?.close();
  }

  #endInput(): void {
    this.#input?.close();
    this.#hold?.write("\n");
  }

  /** Without its files the slot is done with for the launcher, too: `ack` first, which it waits at. */
  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    removePart(this.#slot.base, "ack");
    this.#ack.close();
    removeSlot(this.#slot.base, this.#slot.parts);
    this.#hold?.close();
    this.#input?.close();
    for (const output of this.#outputs) output.close();
    this.#status.destroy();
  }
}
