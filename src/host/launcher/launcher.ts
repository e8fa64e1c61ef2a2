import { writeFileSync } from "node:fs";
import { copyFile, mkdir, readdir, unlink } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { ApiError } from "../../contract/errors.ts";
import { withTimeLimit } from "../time-limit.ts";
import { makeFifos, openReader, openWriter, type OpenFifo } from "./fifo.ts";
import { LaunchedProcess, removeSlot, SLOT_PARTS, type SignalGroup } from "./process.ts";
import { specScript, type ProcessSpec } from "./spec-script.ts";

const SCRIPT = `${import.meta.dirname}/launcher.sh`;
const FIRST_BATCH = 8;
const BATCH = 32;
const LOW_WATER = 16;
/** How long the launcher may take to take a slot: what runs inside can read commands away. */
const TAKE_TIMEOUT_MS = 10_000;

export interface LauncherOptions {
  /** On the host; the container sees it read-only, and runs `sh PATH/launcher.sh PATH SETSID…` there. */
  controlDir: string;
  signalGroup: SignalGroup;
}

/**
 * The host's side of `launcher.sh`: starts processes in a container at the cost of a fork. All files are made here,
 * in a directory that the sandbox cannot write, so nothing in it can be put in the place of another; what comes out
 * of the FIFOs is the sandbox's word and is only believed about the sandbox itself.
 */
export class Launcher {
  readonly #dir: string;
  readonly #signalGroup: SignalGroup;
  readonly #processes = new Map<string, LaunchedProcess>();
  readonly #pool: string[] = [];
  readonly #epoch = randomBytes(5).toString("hex");
  readonly #ready = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  #commands: OpenFifo;
  #alive: OpenFifo;
  #count = 0;
  #filling: Promise<void> | undefined;
  #closed = false;

  private constructor(options: LauncherOptions) {
    this.#dir = options.controlDir;
    this.#signalGroup = options.signalGroup;
    this.#commands = openWriter(`${this.#dir}/cmd`);
    this.#commands.socket.on("error", () => {});
    this.#alive = openReader(`${this.#dir}/alive`);
    this.#alive.socket.on("data", () => this.#ready.resolve());
    this.#alive.socket.on("error", () => {});
    this.#alive.socket.on("close", () => this.close());
    void this.#ready.promise.then(() => this.#alive.keepAlive.close());
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
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const slots = Array.from({ length: FIRST_BATCH }, (_, index) => `first${index}`);
    const names = ["cmd", "alive", ...slots.flatMap(filesOf)];
    await Promise.all([copyFile(SCRIPT, `${dir}/launcher.sh`), makeFifos(names.map((name) => `${dir}/${name}`))]);
    const launcher = new Launcher(options);
    launcher.#pool.push(...slots);
    return launcher;
  }

  /** Takes over the control directory of a container that runs; with the processes that run there, by slot. */
  static async adopt(
    options: LauncherOptions,
  ): Promise<{ launcher: Launcher; processes: Map<string, LaunchedProcess> }> {
    const launcher = new Launcher(options);
    launcher.#ready.resolve();
    const names = await readdir(options.controlDir);
    const used = new Set(names.filter((name) => name.endsWith(".spec")).map((name) => name.slice(0, -".spec".length)));
    const parts = new Set<string>(SLOT_PARTS);
    for (const name of names) {
      const [slot, part] = name.split(".") as [string, string | undefined];
      if (part !== undefined && parts.has(part) && !used.has(slot)) await unlink(`${options.controlDir}/${name}`);
    }
    for (const slot of used) launcher.#open(slot).adopted();
    return { launcher, processes: new Map(launcher.#processes) };
  }

  /** Starts a process; `slot` names it for a later `adopt` (letters and digits). Throws `exec_failed` when nothing starts. */
  async spawn(spec: ProcessSpec, slot?: string): Promise<LaunchedProcess> {
    const script = specScript(spec);
    if (slot === undefined) slot = await this.#takeSlot();
    else await makeFifos(filesOf(slot).map((name) => `${this.#dir}/${name}`));
    if (this.#closed) throw new Error("The container has ended.");
    const path = `${this.#dir}/${slot}`;
    // Nobody looks before the line on `cmd` has come; a write this small costs less than a trip to another thread.
    let process: LaunchedProcess;
    try {
      writeFileSync(`${path}.spec`, script, { mode: 0o600 });
      process = this.#open(slot);
    } catch (error) {
      removeSlot(path);
      throw error;
    }
    // The first newline ends whatever the sandbox itself has written there.
    this.#commands.socket.write(`\n${slot}\n`);
    await this.#untilTaken(process);
    return process;
  }

  /** Lets go of everything; processes that have not ended count as killed. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#commands.keepAlive.close();
    this.#commands.socket.destroy();
    this.#alive.keepAlive.close();
    this.#alive.socket.destroy();
    for (const process of this.#processes.values()) process.gone();
    this.#gone.resolve();
  }

  async #untilTaken(process: LaunchedProcess): Promise<void> {
    const late = () => new ApiError("exec_failed", { detail: "The sandbox's launcher does not start processes." });
    try {
      await withTimeLimit(process.taken, TAKE_TIMEOUT_MS, late);
    } catch (error) {
      process.gone();
      throw error;
    }
  }

  #open(slot: string): LaunchedProcess {
    const process = new LaunchedProcess(`${this.#dir}/${slot}`, this.#signalGroup);
    this.#processes.set(slot, process);
    void process.exited.then(() => this.#processes.delete(slot));
    return process;
  }

  async #takeSlot(): Promise<string> {
    for (;;) {
      const slot = this.#pool.pop();
      if (this.#pool.length < LOW_WATER) this.#fill();
      if (slot !== undefined) return slot;
      await this.#filling;
    }
  }

  #fill(): void {
    this.#filling ??= (async () => {
      const slots = Array.from({ length: BATCH }, () => `${this.#epoch}x${this.#count++}`);
      await makeFifos(slots.flatMap(filesOf).map((name) => `${this.#dir}/${name}`));
      this.#pool.push(...slots);
    })().finally(() => {
      this.#filling = undefined;
    });
    this.#filling.catch(() => {});
  }
}

function filesOf(slot: string): string[] {
  return SLOT_PARTS.map((part) => `${slot}.${part}`);
}
