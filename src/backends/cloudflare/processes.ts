import { ApiError } from "../../contract/errors.ts";
import type { ExecSpec } from "../../contract/host-protocol.ts";
import { MAIN_PROCESS_ID } from "../../contract/ids.ts";
import { AgentConnection } from "./agent/connection.ts";
import { list } from "./agent/frames.ts";
import { readJoined } from "./agent/joined.ts";
import { noteOf, readNote, type ProcessNote } from "./process-note.ts";
import { CloudflareProcess } from "./process.ts";
import type { ProcessSurroundings } from "./process-surroundings.ts";
import { startFrame } from "./start-frame.ts";
import type { KeptProcess } from "./store.ts";

/** Ended processes kept for reading; the oldest go first. */
const MAX_ENDED_PROCESSES = 1000;
/** A few more than an agent runs: one that says it runs more is none. */
const MAX_RUNNING_PROCESSES = 250;

interface Started {
  process: CloudflareProcess;
  /** Why its program cannot be run. */
  failure: string | undefined;
}

/** The processes of the container: of this life of the object, and those it finds from before. */
export class CloudflareProcesses {
  readonly #surroundings: ProcessSurroundings;
  /** Keeps the object awake until the work is done. */
  readonly #keepAwake: (work: Promise<unknown>) => void;
  readonly #mainEnded: (main: CloudflareProcess) => Promise<void>;
  readonly #byId = new Map<string, CloudflareProcess>();
  /** Those that are readiness probes. */
  readonly #probes = new Set<string>();
  /** Those that the agent is being asked about. */
  readonly #joining = new Map<string, Promise<Started>>();
  /** Those that an earlier life of the object left running, until they are taken up. */
  #left: CloudflareProcess[];
  #resuming: Promise<void> | undefined;
  #mainBefore: CloudflareProcess | undefined;

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
      if (kept.isProbe) this.#probes.add(kept.processId);
    }
    this.#left = this.all.filter((process) => !process.exit);
    const main = this.#byId.get(MAIN_PROCESS_ID);
    if (main?.exit) this.#mainBefore = main;
  }

  get all(): CloudflareProcess[] {
    return [...this.#byId.values()];
  }

  /** Whether one runs that was asked for; the entrypoint and probes are not. */
  get areBusy(): boolean {
    return this.all.some(({ exit, id }) => !exit && id !== MAIN_PROCESS_ID && !this.#probes.has(id));
  }

  has(processId: string): boolean {
    return this.#byId.has(processId);
  }

  /** One that runs or ran. What the agent alone knows, because its answer was lost, is found there. */
  async find(processId: string): Promise<CloudflareProcess> {
    const known = this.#byId.get(processId);
    if (known) return known;
    if (!this.#surroundings.isRunning()) throw new ApiError("process_not_found");
    return (await this.#once(processId, () => this.#adopt(processId))).process;
  }

  /**
   * Takes up those that an earlier life of the object left running; done when all of them are. An entrypoint whose end that life
   * has written down, and no more, ends its container now.
   */
  async resume(): Promise<void> {
    const main = this.#mainBefore;
    this.#mainBefore = undefined;
    if (main) this.#keepAwake(this.#mainEnded(main));
    if (this.#left.length > 0) {
      const left = this.#left.splice(0);
      const before = this.#resuming;
      this.#resuming = Promise.all([before, ...left.map((process) => this.#resumeOne(process))]).then(() => {
        this.#resuming = undefined;
      });
    }
    await this.#resuming;
  }

  async #resumeOne(process: CloudflareProcess): Promise<void> {
    if (!this.#surroundings.isRunning()) return process.lose(this.#surroundings.endedBecause());
    // One that cannot be reached now is looked for until it can.
    const connection = await process.resume().catch(() => "unreached" as const);
    if (connection === undefined) process.lose("host_lost");
    this.#keep(process, process.run(connection === "unreached" ? undefined : connection));
  }

  /** Starts one. One of this id that runs or ran is not started again. */
  async start(spec: ExecSpec): Promise<Started> {
    const known = this.#byId.get(spec.process_id);
    if (known) return { process: known, failure: undefined };
    return this.#once(spec.process_id, () => this.#start(spec));
  }

  async #start(spec: ExecSpec): Promise<Started> {
    if (this.all.filter(({ exit }) => !exit).length >= MAX_RUNNING_PROCESSES) {
      throw new ApiError("exec_failed", { detail: `More than ${MAX_RUNNING_PROCESSES} processes run in the sandbox.` });
    }
    const note = noteOf(spec, Date.now());
    const start = startFrame(spec, JSON.stringify(note));
    const connection = await AgentConnection.open(this.#surroundings.agent(), "X", start);
    return this.#join(connection, spec.process_id, spec.is_followed === true, note);
  }

  async #adopt(processId: string): Promise<Started> {
    const from = list(processId, "0", "0");
    const connection = await AgentConnection.open(this.#surroundings.agent(), "A", from);
    return this.#join(connection, processId, true);
  }

  /** The process that the agent says it has. It is written down only now: it runs. Without a note the agent's counts. */
  async #join(
    connection: AgentConnection,
    processId: string,
    isFollowed: boolean,
    note?: ProcessNote,
  ): Promise<Started> {
    try {
      const { payload } = await connection.answer("r", ["exec_failed", "process_not_found"]);
      const joined = readJoined(payload);
      const process = this.#add({ processId, ...(note ?? readNote(joined.note)) });
      process.begin(connection, joined, isFollowed);
      this.#keep(process, process.run(connection));
      return { process, failure: joined.failure };
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  #add(process: Omit<KeptProcess, "seq">): CloudflareProcess {
    const added = new CloudflareProcess(this.#surroundings.store.addProcess(process), this.#surroundings);
    this.#byId.set(added.id, added);
    if (process.isProbe) this.#probes.add(added.id);
    return added;
  }

  #once(processId: string, join: () => Promise<Started>): Promise<Started> {
    const joining =
      this.#joining.get(processId) ??
      join().finally(() => {
        this.#joining.delete(processId);
      });
    this.#joining.set(processId, joining);
    return joining;
  }

  /** The container has gone: so have they. */
  end(): void {
    const reason = this.#surroundings.endedBecause();
    for (const process of this.all) process.lose(reason);
  }

  /** Lets go of all that have ended, with their output. */
  forgetAll(): void {
    for (const process of this.all) {
      if (!process.exit) continue;
      for (const log of Object.values(process.logs)) log.discard();
      this.#forget(process);
    }
  }

  #keep(process: CloudflareProcess, run: Promise<void>): void {
    this.#keepAwake(
      run.then(async () => {
        if (process.id === MAIN_PROCESS_ID) await this.#mainEnded(process);
        if (this.#probes.has(process.id)) this.#forget(process);
        this.#prune();
      }),
    );
  }

  /** Forgets the oldest beyond the bound. */
  #prune(): void {
    const ended = this.all.filter((process) => process.exit && process.id !== MAIN_PROCESS_ID);
    for (const process of ended.slice(0, -MAX_ENDED_PROCESSES)) this.#forget(process);
  }

  #forget(process: CloudflareProcess): void {
    this.#byId.delete(process.id);
    this.#probes.delete(process.id);
    this.#surroundings.store.removeProcess(process.seq);
  }
}
