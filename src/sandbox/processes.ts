import type { Backend, StdinOptions } from "../backends/backend.ts";
import { ApiError, hasCode } from "../contract/errors.ts";
import type { ExecSpec, ProcessStatus } from "../contract/host-protocol.ts";
import { MAIN_PROCESS_ID } from "../contract/ids.ts";
import type { ExecRequest, SignalName, StdinState, TerminalSize } from "../contract/process.ts";
import { isLive } from "../contract/sandbox.ts";
import { describeProcess } from "./describe.ts";
import { identify } from "./exec-identity.ts";
import type { HostLink } from "./host-link.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { overRestarts } from "./over-restarts.ts";
import { hasEnded, lost, newProcess, withStatus, type ProcessRecord } from "./process-record.ts";
import type { ProcessesAtEnd } from "./processes-at-end.ts";
import type { ExecAnswer } from "./rpc.ts";
import type { SandboxStore } from "./store.ts";

interface ExecOptions {
  waitMs?: number;
  isFollowed?: boolean;
  /** The same key and request again find the process that the first one started. */
  idempotencyKey?: string | undefined;
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

  /** Starts a process. `isFollowed` where whoever starts it is about to read all its output. Throws `idempotency_conflict`. */
  async exec(request: ExecRequest, options: ExecOptions): Promise<ExecAnswer> {
    const { waitMs = 0, isFollowed = false, idempotencyKey } = options;
    await this.#host.running();
    const { processId, requestHash } = await identify(request, idempotencyKey);
    const known = this.#store.process(processId);
    if (known && known.requestHash !== requestHash) throw new ApiError("idempotency_conflict");
    const process = known ?? newProcess(processId, request.command, this.#now());
    if (!known) this.#store.addProcess(requestHash === undefined ? process : { ...process, requestHash });
    const spec = { ...this.#specOf(processId, request), ...(isFollowed && { is_followed: true }) };
    try {
      const status = await this.#ask(waitMs, (backend, left) =>
        known?.isConfirmed ? backend.process(processId, left) : backend.exec(spec, left),
      );
      return { process: this.#describe(this.#saw(process, status)), output: status.output };
    } catch (error) {
      if (known?.isConfirmed && hasCode(error, "process_not_found"))
        return { process: this.#describe(await this.get(processId)), output: undefined };
      // A host that did not answer may have started it all the same: whoever asks for it later finds out.
      if (hasCode(error, "backend_unavailable")) throw mayHaveStarted(processId, error);
      if (!this.#store.process(processId)?.isConfirmed) this.#store.removeProcess(processId);
      throw error;
    }
  }

  /** The process as it is; with `waitMs` once it has ended or the time is up. */
  async get(processId: string, waitMs = 0): Promise<ProcessRecord> {
    const process = await this.find(processId);
    if (hasEnded(process)) return process;
    if (!this.#isLive) return this.#afterEnd(process);
    try {
      const status = await this.#ask(waitMs, (backend, left) => backend.process(processId, left));
      return await this.#take(process, status);
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

  /** Also of a process that has ended: what it was given before may be sent again, when the answer was lost. */
  async writeStdin(processId: string, body: ReadableStream<Uint8Array>, options: StdinOptions): Promise<StdinState> {
    const backend = await this.#host.running();
    await this.find(processId);
    try {
      return await backend.writeStdin(processId, body, options);
    } catch (error) {
      if (hasCode(error, "process_not_found") && hasEnded(await this.get(processId))) throw processEnded(processId);
      throw error;
    }
  }

  async resize(processId: string, size: TerminalSize): Promise<void> {
    return this.whileRunning(processId, (backend) => backend.resize(processId, size));
  }

  /** Asks something of a process that runs; one that has ended by then is `process_ended`. */
  async whileRunning<T>(processId: string, ask: (backend: Backend) => Promise<T>): Promise<T> {
    const backend = await this.#host.running();
    if (hasEnded(await this.find(processId))) throw processEnded(processId);
    try {
      return await ask(backend);
    } catch (error) {
      if (hasCode(error, "process_not_found") && hasEnded(await this.get(processId))) throw processEnded(processId);
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
    if (!process) {
      const isMain = processId === MAIN_PROCESS_ID;
      const detail = isMain ? "The sandbox has no entrypoint." : `The sandbox has no process ${processId}.`;
      throw new ApiError("process_not_found", { detail });
    }
    return process;
  }

  /** Asks the host, over a restart of its daemon, with what is left of the time to wait. */
  #ask(waitMs: number, ask: (backend: Backend, leftMs: number) => Promise<ProcessStatus>): Promise<ProcessStatus> {
    const giveUpAt = this.#now() + waitMs;
    return overRestarts(this.#host, this.#now, () =>
      ask(this.#host.open(), waitMs === 0 ? 0 : Math.max(1, giveUpAt - this.#now())),
    );
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

const processEnded = (processId: string) =>
  new ApiError("process_ended", { detail: `The process ${processId} has ended.` });

/** The client cannot know whether anything runs; it can ask for the process when the host is back. */
function mayHaveStarted(processId: string, cause: unknown): ApiError {
  return new ApiError("backend_unavailable", {
    detail: `The sandbox's host does not answer. The process ${processId} may have been started: ask for it later.`,
    retryAfter: 5,
    extra: { process_id: processId },
    cause,
  });
}
