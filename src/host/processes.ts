import { ApiError } from "../contract/errors.ts";
import type { ExecSpec, ProcessStatus } from "../contract/host-protocol.ts";
import type { OutputStream, SignalName } from "../contract/process.ts";
import type { Activity } from "./activity.ts";
import { LogBudget, ProcessLog, type LogReader } from "./process-log.ts";
import type { Container, Spawned } from "./runtime.ts";
import { settlesWithin, tooSlow, withTimeLimit } from "./time-limit.ts";

const KILLED_RETURNCODE = 137;
const MAX_ENDED_PROCESSES = 1000;
/** Each holds descriptors of the daemon. */
const MAX_RUNNING_PROCESSES = 1000;
const SPAWN_TIMEOUT_MS = 30_000;
/** How long a killed process may take to go. */
const LAST_STEP_MS = 5_000;
/** How long the last output of an ended process may take, but for the time that a slow reader holds it back. */
const LAST_OUTPUT_MS = 250;
const LAST_OUTPUT_STEP_MS = 25;

export interface ProcessTableOptions {
  /** Output kept of each stream. */
  windowBytes?: number;
  /** Output kept of all processes of the sandbox together. */
  totalBytes?: number;
  /** Processes that run at a time. */
  maxRunning?: number;
}

interface Process {
  readonly id: string;
  readonly stdout: ProcessLog;
  readonly stderr: ProcessLog;
  /** Settles once the process runs; rejects when the container could not start it. */
  spawned: Promise<Spawned>;
  /** Resolves when the process has ended and its output is complete. Never rejects. */
  readonly ended: PromiseWithResolvers<void>;
  readonly killed: PromiseWithResolvers<void>;
  returncode: number | null;
  timedOut: boolean;
  exitedAt: number | undefined;
}

/** The processes of one container, with their output, also after its end. */
export class ProcessTable {
  readonly #container: Container;
  readonly #activity: Activity;
  readonly #windowBytes: number | undefined;
  readonly #maxRunning: number;
  readonly #budget: LogBudget;
  readonly #processes = new Map<string, Process>();
  #running = 0;

  constructor(container: Container, activity: Activity, options: ProcessTableOptions = {}) {
    this.#container = container;
    this.#activity = activity;
    this.#windowBytes = options.windowBytes;
    this.#maxRunning = options.maxRunning ?? MAX_RUNNING_PROCESSES;
    this.#budget = new LogBudget(options.totalBytes ?? 64 * 1024 * 1024);
  }

  /** Starts the process, or finds the one of this id. Waits for its end for so long. Throws `rate_limited`. */
  async exec(spec: ExecSpec, waitMs: number, signal?: AbortSignal): Promise<ProcessStatus> {
    let process = this.#processes.get(spec.process_id);
    if (!process) {
      if (this.#running >= this.#maxRunning) {
        const detail = `${this.#running} processes run in this sandbox.`;
        throw new ApiError("rate_limited", { detail, retryAfter: 1 });
      }
      process = {
        id: spec.process_id,
        stdout: new ProcessLog(this.#budget, this.#windowBytes),
        stderr: new ProcessLog(this.#budget, this.#windowBytes),
        spawned: undefined as never,
        ended: Promise.withResolvers(),
        killed: Promise.withResolvers(),
        returncode: null,
        timedOut: false,
        exitedAt: undefined,
      };
      this.#processes.set(process.id, process);
      process.spawned = this.#spawn(process, spec);
      this.#running++;
      void process.ended.promise.then(this.#activity.begin()).then(() => this.#running--);
    }
    await process.spawned;
    return this.#statusAfter(process, waitMs, signal);
  }

  async status(processId: string, waitMs: number, signal?: AbortSignal): Promise<ProcessStatus> {
    return this.#statusAfter(this.#find(processId), waitMs, signal);
  }

  list(): ProcessStatus[] {
    return [...this.#processes.values()].map(toStatus);
  }

  async signal(processId: string, signal: SignalName): Promise<void> {
    const process = this.#find(processId);
    const spawned = await process.spawned;
    if (process.exitedAt === undefined) await withTimeLimit(spawned.kill(signal), LAST_STEP_MS, tooSlow("The signal"));
  }

  /** Throws `process_not_found` and `output_expired`. */
  read(processId: string, stream: OutputStream, offset: number, follow: boolean): LogReader {
    return this.#find(processId)[stream].read(offset, follow);
  }

  /** True when the stream has ended, so that its length is final. */
  hasEnded(processId: string, stream: OutputStream): boolean {
    return this.#find(processId)[stream].hasEnded;
  }

  /** The container is gone: what its runtime does not report as ended soon has ended, too. */
  async containerEnded(): Promise<void> {
    const running = [...this.#processes.values()].filter((process) => process.exitedAt === undefined);
    const ended = Promise.all(running.map((process) => process.ended.promise));
    if (await settlesWithin(ended, LAST_STEP_MS)) return;
    for (const process of running) process.killed.resolve();
  }

  /** Lets go of all output. */
  clear(): void {
    for (const process of this.#processes.values()) this.#forget(process);
  }

  #find(processId: string): Process {
    const process = this.#processes.get(processId);
    if (!process) throw new ApiError("process_not_found");
    return process;
  }

  async #spawn(process: Process, spec: ExecSpec): Promise<Spawned> {
    const spawning = this.#container.spawn(spec);
    let spawned: Spawned;
    try {
      spawned = await withTimeLimit(spawning, SPAWN_TIMEOUT_MS, tooSlow("Starting the process"));
    } catch (error) {
      this.#forget(process);
      process.ended.resolve();
      // One that starts after all belongs to nobody.
      spawning.then((late) => late.kill("SIGKILL")).catch(() => {});
      throw error;
    }
    void this.#run(process, spawned, spec);
    return spawned;
  }

  async #run(process: Process, spawned: Spawned, spec: ExecSpec): Promise<void> {
    const output = Promise.all([process.stdout.consume(spawned.stdout), process.stderr.consume(spawned.stderr)]);
    // A process that does not read its input, or is gone, is no error of ours.
    spawned.stdin.on("error", () => {});
    if (spec.stdin === undefined) spawned.stdin.end();
    else spawned.stdin.end(Buffer.from(spec.stdin, "base64"));

    const timer =
      spec.timeout_ms === undefined ? undefined : setTimeout(() => void kill(process, spawned), spec.timeout_ms);
    const exit = await Promise.race([spawned.exited, process.killed.promise]);
    clearTimeout(timer);
    const returncode = exit === undefined || process.timedOut ? KILLED_RETURNCODE : exit;
    process.exitedAt = Date.now();
    await this.#drain(process, output);
    spawned.stdin.destroy();
    process.returncode = returncode;
    process.ended.resolve();
    this.#trim();
  }

  /** Waits for the last output. What something in the background writes after that is read on, but not kept: it gets no SIGPIPE. */
  async #drain({ stdout, stderr }: Process, output: Promise<unknown>): Promise<void> {
    // In steps: a moment in which this daemon gets to do nothing counts as one.
    for (let left = LAST_OUTPUT_MS; left > 0;) {
      if (await settlesWithin(output, LAST_OUTPUT_STEP_MS)) return;
      if (!stdout.isHeld && !stderr.isHeld) left -= LAST_OUTPUT_STEP_MS;
    }
    stdout.end();
    stderr.end();
  }

  async #statusAfter(process: Process, waitMs: number, signal?: AbortSignal): Promise<ProcessStatus> {
    if (waitMs <= 0) return toStatus(process);
    if (process.returncode === null) {
      const over = Promise.withResolvers<void>();
      const giveUp = () => over.resolve();
      const timer = setTimeout(giveUp, waitMs);
      signal?.addEventListener("abort", giveUp);
      await Promise.race([process.ended.promise, over.promise]);
      signal?.removeEventListener("abort", giveUp);
      clearTimeout(timer);
    }
    const stdout = process.stdout.first();
    const stderr = process.stderr.first();
    return {
      ...toStatus(process),
      output: {
        stdout: stdout.bytes.toString("base64"),
        stderr: stderr.bytes.toString("base64"),
        stdout_truncated: stdout.isTruncated,
        stderr_truncated: stderr.isTruncated,
      },
    };
  }

  #trim(): void {
    let excess = -MAX_ENDED_PROCESSES;
    for (const process of this.#processes.values()) if (process.returncode !== null) excess++;
    for (const process of this.#processes.values()) {
      if (excess <= 0) return;
      if (process.returncode === null) continue;
      this.#forget(process);
      excess--;
    }
  }

  #forget(process: Process): void {
    this.#processes.delete(process.id);
    this.#budget.delete(process.stdout);
    this.#budget.delete(process.stderr);
  }
}

/** Ends the process at its timeout, even when the kill does nothing. */
async function kill(process: Process, spawned: Spawned): Promise<void> {
  process.timedOut = true;
  void spawned.kill("SIGKILL").catch(() => {});
  if (!(await settlesWithin(spawned.exited, LAST_STEP_MS))) process.killed.resolve();
}

function toStatus(process: Process): ProcessStatus {
  return {
    process_id: process.id,
    returncode: process.returncode,
    timed_out: process.timedOut,
    ...(process.exitedAt !== undefined && process.returncode !== null && { exited_at: process.exitedAt }),
    stdout_bytes: process.stdout.length,
    stderr_bytes: process.stderr.length,
  };
}
