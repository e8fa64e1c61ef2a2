import type { Backend, StdinOptions } from "../backends/backend.ts";
import { ApiError, hasCode } from "../contract/errors.ts";
import type { ExecSpec, ProcessStatus } from "../contract/host-protocol.ts";
import { MAIN_PROCESS_ID, newId } from "../contract/ids.ts";
import type { ExecRequest, SignalName, StdinState, TerminalSize } from "../contract/process.ts";
import { isLive } from "../contract/sandbox.ts";
import { describeProcess } from "./describe.ts";
import type { HostLink } from "./host-link.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { hasEnded, lost, newProcess, withStatus, type ProcessRecord } from "./process-record.ts";
import type { ProcessesAtEnd } from "./processes-at-end.ts";
import type { ExecAnswer } from "./rpc.ts";
import type { SandboxStore } from "./store.ts";

interface ExecOptions {
  waitMs?: number;
  isFollowed?: boolean;
}

/** A process that was recorded so long ago has reached the host, or never will. */
const UNCONFIRMED_MS = 60_000;

/** The processes of the sandbox: recorded before they start, asked from the backend while they run. */
export class Processes {
  readonly #store: SandboxStore;
  readonly #lifecycle: Lifecycle;
  readonly #host: HostLink;
  readonly #atEnd: ProcessesAtEnd;
  /** Finds out whether the container still runs, and lets its end happen. */
  readonly #checkContainer: () => Promise<void>;
  readonly #now: () => number;

  constructor(
    store: SandboxStore,
    lifecycle: Lifecycle,
    host: HostLink,
    atEnd: ProcessesAtEnd,
    checkContainer: () => Promise<void>,
    now: () => number,
  ) {
    this.#store = store;
    this.#lifecycle = lifecycle;
    this.#host = host;
    this.#atEnd = atEnd;
    this.#checkContainer = checkContainer;
    this.#now = now;
  }

  /** The container has started, and with it the entrypoint, if there is one. */
  recordMain(): void {
    const command = this.#lifecycle.record?.create.entrypoint;
    if (!command || this.#store.process(MAIN_PROCESS_ID)) return;
    this.#store.addProcess({ ...newProcess(MAIN_PROCESS_ID, command, this.#now()), isConfirmed: true });
  }

  /** Starts a process. `isFollowed` where whoever starts it is about to read all its output. */
  async exec(request: ExecRequest, { waitMs = 0, isFollowed = false }: ExecOptions): Promise<ExecAnswer> {
    const backend = await this.#host.running();
    const process = newProcess(newId("process"), request.command, this.#now());
    this.#store.addProcess(process);
    try {
      const spec = this.#specOf(process.processId, request);
      const status = await backend.exec(isFollowed ? { ...spec, is_followed: true } : spec, waitMs);
      return { process: this.#describe(this.#saw(process, status)), output: status.output };
    } catch (error) {
      // A host that did not answer may have started it all the same: whoever lists finds out.
      const isUnknown = hasCode(error, "backend_unavailable") || this.#store.process(process.processId)?.isConfirmed;
      if (!isUnknown) this.#store.removeProcess(process.processId);
      throw error;
    }
  }

  /** The process as it is; with `waitMs` once it has ended or the time is up. */
  async get(processId: string, waitMs = 0): Promise<ProcessRecord> {
    const process = await this.find(processId);
    if (hasEnded(process)) return process;
    if (!this.#isLive) return this.#afterEnd(process);
    try {
      return await this.#take(process, await this.#host.open().process(processId, waitMs));
    } catch (error) {
      if (hasCode(error, "process_not_found") || hasCode(error, "sandbox_ended")) return this.#missing(process);
      throw error;
    }
  }

  /** A page of the processes, the oldest first. */
  async list(after: number, limit: number): Promise<{ seq: number; process: ProcessRecord }[]> {
    const running = this.#store.runningProcesses();
    if (running.length > 0 && this.#isLive) {
      const statuses = await this.#host.open().processes();
      const byId = new Map(statuses.map((status) => [status.process_id, status]));
      for (const process of running) {
        const status = byId.get(process.processId);
        if (status) await this.#take(process, status);
        else this.#unknownToHost(process);
      }
    }
    if (!this.#isLive) await this.#atEnd.settle();
    return this.#store.processesAfter(after, limit);
  }

  async signal(processId: string, signal: SignalName): Promise<void> {
    const backend = await this.#host.running();
    if (hasEnded(await this.get(processId))) return;
    await backend.signal(processId, signal);
  }

  async writeStdin(processId: string, body: ReadableStream<Uint8Array>, options: StdinOptions): Promise<StdinState> {
    return this.whileRunning(processId, (backend) => backend.writeStdin(processId, body, options));
  }

  async resize(processId: string, size: TerminalSize): Promise<void> {
    return this.whileRunning(processId, (backend) => backend.resize(processId, size));
  }

  /** Asks something of a process that runs; one that has ended by then is `process_ended`. */
  async whileRunning<T>(processId: string, ask: (backend: Backend) => Promise<T>): Promise<T> {
    const backend = await this.#host.running();
    const ended = () => new ApiError("process_ended", { detail: `The process ${processId} has ended.` });
    if (hasEnded(await this.find(processId))) throw ended();
    try {
      return await ask(backend);
    } catch (error) {
      const mayHaveEnded = hasCode(error, "process_not_found") || hasCode(error, "stdin_closed");
      if (mayHaveEnded && hasEnded(await this.get(processId))) throw ended();
      throw error;
    }
  }

  /** The record. That of the entrypoint is there once the sandbox has started, which is waited for. */
  async find(processId: string): Promise<ProcessRecord> {
    const record = this.#lifecycle.record!;
    if (processId === MAIN_PROCESS_ID && record.create.entrypoint && record.startedAt === undefined) {
      await this.#host.running();
    }
    const process = this.#store.process(processId);
    if (!process) throw new ApiError("process_not_found");
    return process;
  }

  get #isLive(): boolean {
    return isLive(this.#lifecycle.record!.state);
  }

  #describe(process: ProcessRecord) {
    return describeProcess(this.#lifecycle.record!.sandboxId, process);
  }

  #specOf(processId: string, request: ExecRequest): ExecSpec {
    const { stdin, timeout, user, pty, open_stdin, stdout, stderr } = request;
    const workdir = request.workdir ?? this.#lifecycle.record?.create.workdir;
    return {
      process_id: processId,
      command: request.command,
      env: request.env ?? {},
      ...(workdir !== undefined && { workdir }),
      ...(stdin !== undefined && { stdin }),
      ...(timeout !== undefined && { timeout_ms: timeout * 1000 }),
      ...(user !== undefined && { user }),
      ...(pty && { pty }),
      ...(open_stdin !== undefined && { open_stdin }),
      ...(stdout !== undefined && { stdout }),
      ...(stderr !== undefined && { stderr }),
    };
  }

  /** Takes in what the host says of a process of a live sandbox. */
  async #take(process: ProcessRecord, status: ProcessStatus): Promise<ProcessRecord> {
    if (process.processId !== MAIN_PROCESS_ID || status.returncode === null) return this.#saw(process, status);
    // With the entrypoint the sandbox has ended: its end is written down once, for both.
    await this.#checkContainer().catch(() => undefined);
    return this.#isLive ? withStatus(process, status) : this.#afterEnd(process);
  }

  #saw(before: ProcessRecord, status: ProcessStatus): ProcessRecord {
    // The sandbox may have ended meanwhile, and the process with it: an end is written once.
    const known = this.#store.process(before.processId) ?? before;
    if (hasEnded(known)) return known;
    const seen = withStatus(known, status);
    if (JSON.stringify(seen) !== JSON.stringify(known)) this.#store.updateProcess(seen);
    return seen;
  }

  async #afterEnd(process: ProcessRecord): Promise<ProcessRecord> {
    await this.#atEnd.settle();
    return this.find(process.processId);
  }

  /** The host of a live sandbox does not have the process. */
  async #missing(process: ProcessRecord): Promise<ProcessRecord> {
    await this.#checkContainer().catch(() => undefined);
    if (!this.#isLive) return this.#afterEnd(process);
    this.#unknownToHost(process);
    return this.find(process.processId);
  }

  /** Its daemon was restarted, and the process went with it; the entrypoint lives as long as the container does. */
  #unknownToHost(process: ProcessRecord): void {
    if (process.processId === MAIN_PROCESS_ID) return;
    if (process.isConfirmed) this.#store.updateProcess(lost(process, this.#now()));
    else if (this.#now() - process.createdAt > UNCONFIRMED_MS) this.#store.removeProcess(process.processId);
  }
}
