import { mkdirSync, rmSync } from "node:fs";
import { ApiError } from "../contract/errors.ts";
import { MAIN_PROCESS_ID } from "../contract/ids.ts";
import type { ExecSpec, ProcessStatus } from "../contract/host-protocol.ts";
import { KILLED_RETURNCODE, type TerminalSize } from "../contract/process.ts";
import { statusAfter, statusOf } from "../process/process-status.ts";
import type { Activity } from "../process/activity.ts";
import { adopt, disown } from "./adoption.ts";
import { toBase64 } from "./base64.ts";
import { Journal } from "./journal.ts";
import { LogBudget } from "./logs/log-budget.ts";
import { ProcessLog } from "./logs/process-log.ts";
import type { Pump } from "./logs/pump.ts";
import { segmentsIn } from "./logs/segments.ts";
import { HostProcess } from "./process.ts";
import type { ProcessTableOptions, TableParts } from "./process-table-options.ts";
import type { Container } from "./runtime.ts";
import { settlesWithin, tooSlow, withTimeLimit } from "./time-limit.ts";

const MAX_ENDED_PROCESSES = 1000;
/** Each holds descriptors of the daemon. */
const MAX_RUNNING_PROCESSES = 1000;
const SPAWN_TIMEOUT_MS = 30_000;
/** How long processes may take to follow their container. */
const LAST_STEP_MS = 5_000;
const TOTAL_BYTES = 1024 * 1024 * 1024;

/** The processes of one container, with their output, also after its end and after a restart of this daemon. */
export class ProcessTable {
  readonly #folder: string;
  readonly #pump: Pump;
  readonly #activity: Activity;
  readonly #options: ProcessTableOptions;
  readonly #budget: LogBudget;
  readonly #journal: Journal;
  readonly #found: Map<string, string[]>;
  readonly #processes = new Map<string, HostProcess>();
  readonly #spawning = new Map<string, Promise<void>>();
  #container: Container | undefined;
  #running = 0;

  constructor(parts: TableParts, options: ProcessTableOptions = {}) {
    this.#folder = parts.folder;
    this.#pump = parts.pump;
    this.#activity = parts.activity;
    this.#options = options;
    this.#budget = new LogBudget(options.totalBytes ?? TOTAL_BYTES);
    mkdirSync(parts.folder, { recursive: true, mode: 0o700 });
    this.#found = segmentsIn(parts.folder);
    this.#journal = new Journal(`${parts.folder}/journal`);
  }

  /** Begins with a container: the entrypoint is its first process. */
  start(container: Container): void {
    this.#container = container;
    if (!container.main) return;
    const main = this.#add(MAIN_PROCESS_ID);
    main.awaitReaders(false);
    const spec = { open_stdin: container.main.resize !== undefined };
    main.announce(spec);
    main.begin(container.main, spec);
  }

  /** Takes up what an earlier daemon left; without a container its processes have ended. */
  async recover(container: Container | undefined): Promise<void> {
    this.#container = container;
    for (const journaled of this.#journal.processes) {
      const process = this.#add(journaled.id);
      if (journaled.isProbe) {
        this.#forget(process);
        continue;
      }
      if (journaled.exit) {
        process.restoreExit(journaled.exit);
        continue;
      }
      const { id, handle } = journaled;
      const spawned = id === MAIN_PROCESS_ID ? container?.main : await adopt(container, id, handle);
      // Whoever asked for it asks again.
      if (spawned === "unstarted" && journaled.isPlain) this.#forget(process);
      else if (!spawned || spawned === "unstarted")
        process.restoreExit({ returncode: KILLED_RETURNCODE, timedOut: false, reason: "host_lost", at: Date.now() });
      else {
        process.resume(spawned, journaled);
        if (id !== MAIN_PROCESS_ID) this.#countAsRunning(process);
      }
    }
    container?.dropUnclaimed();
  }

  /** Starts the process, or finds the one of this id. Waits for its end for so long. Throws `rate_limited`. */
  async exec(spec: ExecSpec, waitMs: number, signal?: AbortSignal): Promise<ProcessStatus> {
    const id = spec.process_id;
    if (!this.#processes.has(id)) {
      const limit = this.#options.maxRunning ?? MAX_RUNNING_PROCESSES;
      if (this.#running >= limit) {
        const detail = `${this.#running} processes run in this sandbox.`;
        throw new ApiError("rate_limited", { detail, retryAfter: 1 });
      }
      const process = this.#add(id);
      if (spec.is_followed || waitMs === 0) process.awaitReaders(spec.is_followed === true);
      this.#spawning.set(id, this.#spawn(process, spec));
    }
    await this.#spawning.get(id);
    const process = this.#find(id);
    if (spec.is_probe) void process.ended.then(() => setImmediate(() => this.#forget(process)));
    return statusAfter(process, waitMs, toBase64, signal);
  }

  async status(processId: string, waitMs: number, signal?: AbortSignal): Promise<ProcessStatus> {
    return statusAfter(this.#find(processId), waitMs, toBase64, signal);
  }

  list(): ProcessStatus[] {
    return [...this.#processes.values()].map(statusOf);
  }

  /** Throws `process_not_found`. */
  async get(processId: string): Promise<HostProcess> {
    await this.#spawning.get(processId)?.catch(() => undefined);
    return this.#find(processId);
  }

  /** Throws `not_a_terminal` and `process_ended`. */
  async resize(processId: string, size: TerminalSize): Promise<void> {
    const process = await this.get(processId);
    if (process.hasExited) throw new ApiError("process_ended");
    if (!process.resize) throw new ApiError("not_a_terminal");
    await withTimeLimit(process.resize(size), LAST_STEP_MS, tooSlow("Setting the size"));
  }

  /** The container is gone: what its runtime does not report as ended soon has ended, too. */
  async containerEnded(): Promise<void> {
    const running = [...this.#processes.values()].filter((process) => !process.hasExited);
    if (await settlesWithin(Promise.all(running.map((process) => process.ended)), LAST_STEP_MS)) return;
    for (const process of running) process.lose("sandbox_ended");
  }

  /** Nothing more happens here for now: what is open is closed. */
  rest(): void {
    this.#journal.close();
  }

  /** On disk. */
  get keptBytes(): number {
    return this.#budget.keptBytes;
  }

  /** Lets go of all output. */
  remove(): void {
    for (const process of this.#processes.values()) process.remove();
    this.#processes.clear();
    this.#journal.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #add(id: string): HostProcess {
    const { windowBytes } = this.#options;
    const log = (part: "out" | "err") => {
      const found = this.#found.get(`${id}.${part}`) ?? [];
      return new ProcessLog({ base: `${this.#folder}/${id}.${part}`, budget: this.#budget, windowBytes, found });
    };
    const process = new HostProcess({
      id,
      stdout: log("out"),
      stderr: log("err"),
      pump: this.#pump,
      note: (line) => this.#journal.note({ id, ...line }),
      announce: (line) => this.#journal.announce({ id, ...line }),
      oomKills: () => this.#container?.oomKills(),
    });
    this.#processes.set(id, process);
    return process;
  }

  #find(processId: string): HostProcess {
    const process = this.#processes.get(processId);
    if (!process) throw new ApiError("process_not_found");
    return process;
  }

  async #spawn(process: HostProcess, spec: ExecSpec): Promise<void> {
    const container = this.#container;
    if (!container) throw new ApiError("sandbox_ended");
    const isOpen = spec.open_stdin === true || spec.pty !== undefined;
    const input = isOpen ? "open" : spec.stdin === undefined ? "none" : "once";
    try {
      process.announce(spec);
    } catch (cause) {
      this.#spawning.delete(process.id);
      this.#forget(process);
      throw new ApiError("backend_unavailable", { detail: "The host's disk is full.", retryAfter: 5, cause });
    }
    this.#running++;
    const spawning = container.spawn({ ...spec, input });
    try {
      process.begin(await withTimeLimit(spawning, SPAWN_TIMEOUT_MS, tooSlow("Starting the process")), spec);
      this.#running--;
      this.#countAsRunning(process, spec.is_probe);
    } catch (error) {
      this.#running--;
      this.#forget(process);
      // One that starts after all belongs to nobody.
      spawning.then(disown).catch(() => {});
      throw error;
    } finally {
      this.#spawning.delete(process.id);
    }
  }

  #countAsRunning(process: HostProcess, isProbe = false): void {
    this.#running++;
    const end = isProbe ? () => {} : this.#activity.begin().end;
    void process.ended.then(() => {
      this.#running--;
      end();
      this.#trim();
    });
  }

  #trim(): void {
    let excess = -MAX_ENDED_PROCESSES;
    for (const process of this.#processes.values()) if (process.exit) excess++;
    for (const process of this.#processes.values()) {
      if (excess <= 0) return;
      if (!process.exit || process.id === MAIN_PROCESS_ID) continue;
      this.#forget(process);
      excess--;
    }
  }

  #forget(process: HostProcess): void {
    this.#processes.delete(process.id);
    process.remove();
    this.#journal.note({ id: process.id, gone: true });
  }
}
