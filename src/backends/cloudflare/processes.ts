import { ApiError, hasCode } from "../../contract/errors.ts";
import type { ExecSpec } from "../../contract/host-protocol.ts";
import { MAIN_PROCESS_ID } from "../../contract/ids.ts";
import { CloudflareProcess, type ProcessSurroundings } from "./process.ts";

/** Ended processes kept for reading, and how much of their output; the oldest go first. */
const MAX_ENDED_PROCESSES = 1000;
const MAX_OUTPUT_BYTES = 256 * 1024 * 1024;

/** The processes of the container: of this life of the object, and those it finds from before. */
export class CloudflareProcesses {
  readonly #surroundings: ProcessSurroundings;
  /** Keeps the object awake until the work is done. */
  readonly #keepAwake: (work: Promise<unknown>) => void;
  readonly #mainEnded: (main: CloudflareProcess) => Promise<void>;
  readonly #byId = new Map<string, CloudflareProcess>();
  /** Those that an earlier life of the object left running, until they are taken up. */
  #left: CloudflareProcess[];
  #resuming: Promise<void> | undefined;

  constructor(
    surroundings: ProcessSurroundings,
    keepAwake: (work: Promise<unknown>) => void,
    mainEnded: (main: CloudflareProcess) => Promise<void>,
  ) {
    this.#surroundings = surroundings;
    this.#keepAwake = keepAwake;
    this.#mainEnded = mainEnded;
    for (const kept of surroundings.store.processes()) {
      this.#byId.set(kept.processId, new CloudflareProcess(kept, surroundings));
    }
    this.#left = this.all.filter((process) => !process.exit);
  }

  get all(): CloudflareProcess[] {
    return [...this.#byId.values()];
  }

  /** Whether one runs that was asked for; the entrypoint is not. */
  get areBusy(): boolean {
    return this.all.some((process) => !process.exit && process.id !== MAIN_PROCESS_ID);
  }

  find(processId: string): CloudflareProcess {
    const process = this.#byId.get(processId);
    if (!process) throw new ApiError("process_not_found");
    return process;
  }

  has(processId: string): boolean {
    return this.#byId.has(processId);
  }

  /** Takes up those that an earlier life of the object left running. Done once, whoever asks. */
  async resume(): Promise<void> {
    if (this.#left.length === 0) return;
    this.#resuming ??= Promise.all(this.#left.map((process) => this.#resumeOne(process))).then(() => {
      this.#resuming = undefined;
    });
    await this.#resuming;
  }

  async #resumeOne(process: CloudflareProcess): Promise<void> {
    this.#left = this.#left.filter((one) => one !== process);
    if (!this.#surroundings.isRunning()) return process.lose(this.#surroundings.endedBecause());
    // One that cannot be reached now is looked for until it can.
    const connection = await process.resume().catch(() => "unreached" as const);
    if (connection === undefined) process.lose("host_lost");
    else this.#keep(process, process.run(connection === "unreached" ? undefined : connection));
  }

  /** Starts one; the answer is why it did not start, where the program cannot be run. */
  async start(spec: ExecSpec): Promise<{ process: CloudflareProcess; failure: string | undefined }> {
    const kept = this.#surroundings.store.addProcess({
      processId: spec.process_id,
      isTerminal: spec.pty !== undefined,
      ...(spec.timeout_ms !== undefined && { killAt: Date.now() + spec.timeout_ms }),
    });
    const process = new CloudflareProcess(kept, this.#surroundings);
    this.#byId.set(process.id, process);
    try {
      const { failure, connection } = await process.start(spec);
      this.#keep(process, process.run(connection));
      return { process, failure };
    } catch (error) {
      // An agent that did not answer may have started it all the same: it is looked for.
      if (hasCode(error, "backend_unavailable")) this.#keep(process, process.run(undefined));
      else this.#forget(process);
      throw error;
    }
  }

  /** The container has gone: so have they. */
  end(): void {
    const reason = this.#surroundings.endedBecause();
    for (const process of this.all) process.lose(reason);
  }

  /** Lets go of all output that is kept. */
  discardOutput(): void {
    for (const { logs } of this.all) for (const log of Object.values(logs)) log.discard();
  }

  #keep(process: CloudflareProcess, run: Promise<void>): void {
    this.#keepAwake(
      run.then(async () => {
        if (process.id === MAIN_PROCESS_ID) await this.#mainEnded(process);
        this.#prune();
      }),
    );
  }

  #forget(process: CloudflareProcess): void {
    this.#byId.delete(process.id);
    this.#surroundings.store.removeProcess(process.seq);
  }

  /** Keeps the storage within its bounds. */
  #prune(): void {
    const ended = this.all.filter((process) => process.exit && process.id !== MAIN_PROCESS_ID);
    for (const process of ended.slice(0, -MAX_ENDED_PROCESSES)) this.#forget(process);
    let kept = this.all.reduce((sum, { logs }) => sum + logs.stdout.keptBytes + logs.stderr.keptBytes, 0);
    for (const { logs } of ended) {
      if (kept <= MAX_OUTPUT_BYTES) return;
      for (const log of [logs.stdout, logs.stderr]) {
        kept -= log.keptBytes;
        log.shrink();
      }
    }
  }
}
