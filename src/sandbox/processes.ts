import type { Backend } from "../backends/backend.ts";
import { ApiError, hasCode } from "../contract/errors.ts";
import type { ProcessStatus } from "../contract/host-protocol.ts";
import { newId } from "../contract/ids.ts";
import type { ExecRequest, SignalName } from "../contract/process.ts";
import { isLive } from "../contract/sandbox.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { ExecAnswer } from "./rpc.ts";
import { describeProcess } from "./describe.ts";
import type { ProcessRecord, SandboxStore } from "./store.ts";

const KILLED = 137;

/** The exec'd processes of the sandbox: recorded before they start, asked from the backend while they run. */
export class Processes {
  readonly #store: SandboxStore;
  readonly #lifecycle: Lifecycle;
  readonly #running: () => Promise<Backend>;
  readonly #now: () => number;

  constructor(store: SandboxStore, lifecycle: Lifecycle, running: () => Promise<Backend>, now: () => number) {
    this.#store = store;
    this.#lifecycle = lifecycle;
    this.#running = running;
    this.#now = now;
  }

  async exec(request: ExecRequest, waitMs: number): Promise<ExecAnswer> {
    const backend = await this.#running();
    const process: ProcessRecord = {
      processId: newId("process"),
      command: request.command,
      createdAt: this.#now(),
      last: { returncode: null, timed_out: false, stdout_bytes: 0, stderr_bytes: 0 },
    };
    this.#store.saveProcess(process);
    this.#lifecycle.touch();
    const workdir = request.workdir ?? this.#lifecycle.record?.create.workdir;
    try {
      const status = await backend.exec(
        {
          process_id: process.processId,
          command: request.command,
          env: request.env ?? {},
          ...(workdir !== undefined && { workdir }),
          ...(request.stdin !== undefined && { stdin: request.stdin }),
          ...(request.timeout !== undefined && { timeout_ms: request.timeout * 1000 }),
        },
        waitMs,
      );
      const seen = this.#saw(process, status);
      return { process: this.#describe(seen), output: status.output };
    } catch (error) {
      this.#store.removeProcess(process.processId);
      throw error;
    } finally {
      this.#lifecycle.touch();
    }
  }

  async get(processId: string, waitMs: number): Promise<ProcessRecord> {
    const process = this.#find(processId);
    if (process.last.returncode !== null) return process;
    if (!isLive(this.#lifecycle.record!.state)) return this.#lost(process);
    const backend = await this.#running();
    try {
      return this.#saw(process, await backend.process(processId, waitMs));
    } catch (error) {
      // The host does not know it any more: its daemon was restarted, and the process went with it.
      if (hasCode(error, "process_not_found") || hasCode(error, "sandbox_ended")) return this.#lost(process);
      throw error;
    }
  }

  async list(): Promise<ProcessRecord[]> {
    const running = this.#store.runningProcesses();
    if (running.length > 0 && isLive(this.#lifecycle.record!.state)) {
      const statuses = await (await this.#running()).processes();
      const byId = new Map(statuses.map((status) => [status.process_id, status]));
      for (const process of running) {
        const status = byId.get(process.processId);
        if (status) this.#saw(process, status);
        // One that was recorded a moment ago may not have reached the host yet.
        else if (this.#now() - process.createdAt > 60_000) this.#lost(process);
      }
    } else {
      for (const process of running) this.#lost(process);
    }
    return this.#store.processes();
  }

  async signal(processId: string, signal: SignalName): Promise<void> {
    const process = await this.get(processId, 0);
    if (process.last.returncode !== null) return;
    await (await this.#running()).signal(processId, signal);
    this.#lifecycle.touch();
  }

  #find(processId: string): ProcessRecord {
    const process = this.#store.process(processId);
    if (!process) throw new ApiError("process_not_found");
    return process;
  }

  #describe(process: ProcessRecord) {
    return describeProcess(this.#lifecycle.record!.sandboxId, process);
  }

  #saw(process: ProcessRecord, status: ProcessStatus): ProcessRecord {
    const seen: ProcessRecord = {
      ...process,
      last: {
        returncode: status.returncode,
        timed_out: status.timed_out,
        stdout_bytes: status.stdout_bytes,
        stderr_bytes: status.stderr_bytes,
        ...(status.exited_at !== undefined && { exitedAt: status.exited_at }),
      },
    };
    this.#store.saveProcess(seen);
    if (status.returncode !== null) this.#store.pruneProcesses();
    return seen;
  }

  /** The process went down with its container or its host. */
  #lost(process: ProcessRecord): ProcessRecord {
    const exitedAt = this.#lifecycle.record?.finishedAt ?? this.#now();
    const seen: ProcessRecord = { ...process, last: { ...process.last, returncode: KILLED, exitedAt } };
    this.#store.saveProcess(seen);
    return seen;
  }
}
