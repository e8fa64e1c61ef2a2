import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { copyFile, mkdir, readdir, rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { ApiError } from "../../contract/errors.ts";
import { makeFifo } from "../linux/libc.ts";
import type { Terminal } from "../linux/terminal.ts";
import type { SpawnSpec } from "../runtime.ts";
import { withTimeLimit } from "../time-limit.ts";
import { FifoReader, FifoWriter } from "./fifo.ts";
import { LaunchedProcess, type SignalGroup } from "./process.ts";
import { makeSlot, partsAt, partsFor, removeSlot, streamsOf } from "./slot.ts";
import { specScript, type ProcessSpec } from "./spec-script.ts";

export const LAUNCHER_SCRIPT = `${import.meta.dirname}/launcher.sh`;
/** How long the launcher may take to take a slot: what runs inside can read commands away. */
const TAKE_TIMEOUT_MS = 10_000;
/** How soon the status of a slot that was never taken is at its end. */
const UNTAKEN_MS = 1_000;
/** All that the launcher says on `alive` is one line; what says more is not the launcher. */
const MAX_ALIVE_BYTES = 4096;

export interface LauncherOptions {
  /** On the host; the container sees it read-only, and runs `sh …/launcher.sh INSIDE_DIR SETSID…`. */
  controlDir: string;
  /** Where the container sees it. */
  insideDir: string;
  signalGroup: SignalGroup;
  /** Whether others than this daemon's own user have to read what is to be started. */
  isReadByOthers?: boolean;
}

/** What a slot is started with. */
export interface LaunchSpec extends ProcessSpec, Pick<SpawnSpec, "input" | "stdout" | "stderr" | "isBulk"> {
  /** In the place of pipes, and where the container sees it. */
  terminal?: { terminal: Terminal; path: string } | undefined;
}

/**
 * The host's side of `launcher.sh`: starts processes in a container at the cost of a fork. All files are made here,
 * in a directory that the sandbox cannot write, so nothing in it can be put in the place of another; what comes out
 * of the FIFOs is the sandbox's word and is only believed about the sandbox itself.
 */
export class Launcher {
  readonly #options: LauncherOptions;
  readonly #processes = new Map<string, LaunchedProcess>();
  readonly #epoch = randomBytes(5).toString("hex");
  readonly #ready = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  readonly #commands: FifoWriter;
  readonly #aliveFifo: FifoReader;
  readonly #alive: Socket;
  #count = 0;
  #closed = false;

  private constructor(options: LauncherOptions) {
    this.#options = options;
    this.#commands = new FifoWriter(`${options.controlDir}/cmd`);
    try {
      this.#aliveFifo = new FifoReader(`${options.controlDir}/alive`);
    } catch (error) {
      this.#commands.close();
      throw error;
    }
    this.#alive = this.#aliveFifo.stream() as Socket;
    this.#alive.on("data", () => {
      this.#ready.resolve();
      if (this.#alive.bytesRead > MAX_ALIVE_BYTES) this.#alive.destroy();
    });
    this.#alive.on("error", () => {});
    this.#alive.on("close", () => this.close());
    void this.#ready.promise.then(() => this.#aliveFifo.closeKeepAlive());
  }

  /** Resolves once commands are taken. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Resolves when every process of the container has gone. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  /** Makes the control directory of a container that is about to start. */
  static async create(options: LauncherOptions): Promise<Launcher> {
    const dir = options.controlDir;
    await mkdir(dir, { recursive: true, mode: 0o755 });
    await copyFile(LAUNCHER_SCRIPT, `${dir}/launcher.sh`);
    for (const name of ["cmd", "alive"]) makeFifo(`${dir}/${name}`);
    return new Launcher(options);
  }

  /** Takes over the control directory of a container that runs. */
  static async adopt(options: LauncherOptions): Promise<Launcher> {
    const launcher = new Launcher(options);
    launcher.#ready.resolve();
    return launcher;
  }

  /** The slots that an earlier run of this daemon started and did not finish with; what it left half made is removed. */
  async leftSlots(): Promise<string[]> {
    const { controlDir } = this.#options;
    const names = (await readdir(controlDir)).map((name) => name.split(".") as [string, string | undefined]);
    const withPart = (wanted: string) => names.filter(([, part]) => part === wanted).map(([slot]) => slot);
    // `spec` comes last and `ack` goes first: without it the slot was done with, and its removal cut off.
    const acknowledged = new Set(withPart("ack"));
    const started = new Set(withPart("spec").filter((slot) => acknowledged.has(slot)));
    const halfMade = names.filter(([slot, part]) => part !== undefined && part !== "sh" && !started.has(slot));
    await Promise.all(halfMade.map((name) => rm(`${controlDir}/${name.join(".")}`, { force: true })));
    return [...started];
  }

  /** The process of a left slot. */
  adoptSlot(slot: string, pid?: number): LaunchedProcess {
    const base = `${this.#options.controlDir}/${slot}`;
    const process = this.#open(slot, { base, parts: partsAt(base), signalGroup: this.#options.signalGroup });
    process.adopted(pid);
    return process;
  }

  /** The process of a left slot whose pid is not known; undefined when the launcher has never taken it, and now never will. */
  async adoptTaken(slot: string): Promise<LaunchedProcess | undefined> {
    const process = this.adoptSlot(slot);
    // One that was taken has said so, or has nothing more to say: then its status stays open.
    const isTaken = await withTimeLimit(process.taken, UNTAKEN_MS, () => new Error("late")).catch(() => true);
    return isTaken ? process : undefined;
  }

  /** Ends what is left in a slot that nobody wants any more. */
  dropSlot(slot: string): void {
    let process: LaunchedProcess;
    try {
      process = this.adoptSlot(slot);
    } catch (error) {
      return console.error(`sandbar host: the slot ${slot} is left where it is:`, error);
    }
    for (const output of [process.stdout, process.stderr])
      output
        .stream()
        .on("error", () => {})
        .resume();
    process.stdin.end();
    void process.exited.then(() => process.release());
  }

  /** Starts a process in a slot, named by letters and digits. Throws `exec_failed` when nothing starts. */
  async spawn(spec: LaunchSpec, slot = `${this.#epoch}x${this.#count++}`): Promise<LaunchedProcess> {
    if (this.#closed) throw new Error("The container has ended.");
    const { controlDir, insideDir, signalGroup, isReadByOthers } = this.#options;
    const base = `${controlDir}/${slot}`;
    const parts = partsFor(spec, spec.terminal !== undefined);
    const streams = spec.terminal ? { tty: spec.terminal.path } : streamsOf(`${insideDir}/${slot}`, parts);
    let process: LaunchedProcess;
    try {
      makeSlot(base, parts);
      // Nobody looks before the line on `cmd` has come; a write this small costs less than a trip to another thread.
      writeFileSync(`${base}.spec`, specScript(spec, streams), { mode: isReadByOthers ? 0o644 : 0o600 });
      process = this.#open(slot, { base, parts, signalGroup, terminal: spec.terminal?.terminal, isBulk: spec.isBulk });
    } catch (error) {
      removeSlot(base, parts);
      throw error;
    }
    // The first newline ends whatever the sandbox itself has written there.
    this.#commands.socket.write(`\n${slot}\n`);
    await this.#untilTaken(process);
    return process;
  }

  /** Lets go of everything; processes that have not ended went with the container. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#commands.close();
    this.#aliveFifo.close();
    this.#alive.destroy();
    for (const process of this.#processes.values()) process.gone();
    this.#gone.resolve();
  }

  async #untilTaken(process: LaunchedProcess): Promise<void> {
    const late = () => new ApiError("exec_failed", { detail: "The sandbox's launcher does not start processes." });
    try {
      if (!(await withTimeLimit(process.taken, TAKE_TIMEOUT_MS, late))) throw new ApiError("sandbox_ended");
    } catch (error) {
      process.gone();
      throw error;
    }
  }

  #open(slot: string, inUse: ConstructorParameters<typeof LaunchedProcess>[0]): LaunchedProcess {
    const process = new LaunchedProcess(inUse);
    this.#processes.set(slot, process);
    void process.exited.then(() => this.#processes.delete(slot));
    return process;
  }
}
