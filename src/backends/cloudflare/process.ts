import type { ExecSpec } from "../../contract/host-protocol.ts";
import {
  KILLED_RETURNCODE,
  SIGNALS,
  type OutputStream,
  type ProcessFinishReason,
  type SignalName,
  type TerminalSize,
} from "../../contract/process.ts";
import { ApiError } from "../../contract/errors.ts";
import type { Exit, ObservedProcess } from "../../process/observed-process.ts";
import { ProcessInput } from "../../process/process-input.ts";
import { AgentConnection, unreachable, type AgentAddress } from "./agent/connection.ts";
import { frame, list, nonsense, numberAt, stringsOf, viewOf, type Frame } from "./agent/frames.ts";
import { AgentInput } from "./agent-input.ts";
import { exitOf } from "./exit-frame.ts";
import { OutputIntake } from "./output-intake.ts";
import { startFrame } from "./start-frame.ts";
import type { SqliteLog } from "./sqlite-log.ts";
import type { CloudflareStore, KeptProcess } from "./store.ts";

/** How long a killed process may take to go. */
const LAST_STEP_MS = 10_000;
const RECONNECT_MS = 200;

/** What a process needs of the container that it runs in. */
export interface ProcessSurroundings {
  store: CloudflareStore;
  agent(): AgentAddress;
  /** Whether the container still runs. When it does not: what becomes of its processes. */
  isRunning(): boolean;
  endedBecause(): ProcessFinishReason;
}

/** One process of a container: its connection to the agent, its output on the way to the storage, its end. */
export class CloudflareProcess implements ObservedProcess {
  readonly id: string;
  readonly #intake: OutputIntake;
  readonly #surroundings: ProcessSurroundings;
  readonly #ended = Promise.withResolvers<void>();
  readonly #endListeners = new Set<() => void>();
  #kept: KeptProcess;
  #connection: AgentConnection | undefined;
  #agentInput: AgentInput | undefined;
  #input: ProcessInput | undefined;
  #exit: Exit | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timedOut = false;

  constructor(kept: KeptProcess, surroundings: ProcessSurroundings) {
    this.id = kept.processId;
    this.#kept = kept;
    this.#surroundings = surroundings;
    const endedAt = kept.exit && { stdout: kept.exit.stdoutBytes, stderr: kept.exit.stderrBytes };
    this.#intake = new OutputIntake(surroundings.store, kept.seq, endedAt);
    void this.#ended.promise.then(() => {
      for (const listener of this.#endListeners) listener();
    });
    if (kept.exit) this.#restore(kept.exit);
  }

  get seq(): number {
    return this.#kept.seq;
  }

  get logs(): Record<OutputStream, SqliteLog> {
    return this.#intake.logs;
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get exit(): Exit | undefined {
    return this.#exit;
  }

  get input(): ProcessInput | undefined {
    return this.#input;
  }

  onEnd(listener: () => void): () => void {
    this.#endListeners.add(listener);
    return () => this.#endListeners.delete(listener);
  }

  /** Starts it, and answers once it runs, or why its program does not. Throws `exec_failed`. */
  async start(spec: ExecSpec): Promise<{ failure: string | undefined; connection: AgentConnection }> {
    for (const { holds } of Object.values(this.logs)) {
      if (spec.is_followed) holds.awaitAnyone(0);
      else holds.expectAnyone(0);
    }
    const connection = await this.#open("X", startFrame(spec));
    const { failure } = this.#joined(connection, await connection.answer("r"));
    this.#armTimeout();
    return { failure, connection };
  }

  /** Takes up a process that an earlier life of the object started. Undefined when the agent does not know it. */
  async resume(): Promise<AgentConnection | undefined> {
    for (const log of Object.values(this.logs)) log.holds.awaitAnyone(log.oldestOffset);
    this.#armTimeout();
    return this.#attach();
  }

  async signal(signal: SignalName): Promise<void> {
    if (this.#exit) return;
    const connection = this.#connection;
    if (!connection) throw unreachable();
    await connection.send(frame("S", Uint8Array.of(SIGNALS[signal])));
  }

  get resize(): ((size: TerminalSize) => Promise<void>) | undefined {
    if (!this.#kept.isTerminal) return undefined;
    return async ({ rows, cols }) => {
      const size = new Uint8Array(4);
      viewOf(size).setUint16(0, rows);
      viewOf(size).setUint16(2, cols);
      this.#connection?.tell(frame("Z", size));
    };
  }

  /** Does not wait for readers that nobody has seen yet. */
  hurry(): void {
    for (const log of Object.values(this.logs)) {
      log.holds.expectNobody();
      log.readerMoved();
    }
  }

  /** Counts it as ended, whatever the agent says. */
  lose(reason: ProcessFinishReason): void {
    this.#finish({
      returncode: KILLED_RETURNCODE,
      timedOut: this.#timedOut,
      reason: this.#timedOut ? "timeout" : reason,
    });
  }

  #open(type: string, payload: Uint8Array): Promise<AgentConnection> {
    return AgentConnection.open(this.#surroundings.agent(), type, payload);
  }

  /** Connects to the agent again, from where the output is stored. Undefined when it does not know the process. */
  async #attach(): Promise<AgentConnection | undefined> {
    const { stdout, stderr } = this.logs;
    const connection = await this.#open("A", list(this.id, String(stdout.length), String(stderr.length)));
    try {
      this.#joined(connection, await connection.answer("r"));
      return connection;
    } catch (error) {
      connection.close();
      if (error instanceof ApiError && error.code === "process_not_found") return undefined;
      throw error;
    }
  }

  #joined(connection: AgentConnection, { payload }: Frame): { failure: string | undefined } {
    this.#connection = connection;
    const received = numberAt(payload, 4);
    const [failure = ""] = stringsOf(payload.subarray(13));
    this.#agentInput ??= new AgentInput(received);
    this.#agentInput.connect(connection, received);
    this.#input ??= new ProcessInput({
      sink: this.#agentInput,
      offset: received,
      isOpen: payload[12] === 1,
      ended: this.#ended.promise,
      note: () => undefined,
    });
    this.#intake.connect(connection);
    // Its time was up while nobody was connected.
    if (this.#timedOut) connection.tell(frame("S", Uint8Array.of(SIGNALS.SIGKILL)));
    return { failure: failure === "" ? undefined : failure.slice(0, 500) };
  }

  /**
   * Takes in what the agent says of the process, over as many connections as it takes, until it has ended. Without a
   * connection it makes one.
   */
  async run(connection: AgentConnection | undefined): Promise<void> {
    while (!this.#exit) {
      if (connection) await this.#listen(connection);
      if (this.#exit) break;
      this.#connection = undefined;
      if (!this.#surroundings.isRunning()) {
        this.lose(this.#surroundings.endedBecause());
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
      if (!this.#surroundings.isRunning()) continue;
      try {
        connection = await this.#attach();
        if (!connection) this.lose("host_lost");
      } catch {
        connection = undefined;
      }
    }
  }

  async #listen(connection: AgentConnection): Promise<void> {
    try {
      for (let next = await connection.next(); next && !this.#exit; next = await connection.next()) {
        this.#take(next);
      }
    } catch (error) {
      console.error(`What the agent says of ${this.id} is not understood.`, error);
    } finally {
      connection.close();
    }
  }

  #take({ type, payload }: Frame): void {
    switch (type) {
      case "o":
        return this.#intake.take("stdout", payload);
      case "e":
        return this.#intake.take("stderr", payload);
      case "i":
        return this.#agentInput?.taken(numberAt(payload, 0), payload[8] === 1);
      case "x":
        return this.#exited(payload);
      default:
        throw nonsense();
    }
  }

  #exited(payload: Uint8Array): void {
    const exit = exitOf(payload);
    this.#connection?.tell(frame("D"));
    if (this.#timedOut) this.lose("timeout");
    else this.#finish({ ...exit, timedOut: false });
  }

  #finish(end: Omit<Exit, "at">): void {
    if (this.#exit) return;
    clearTimeout(this.#timer);
    const exit = { ...end, at: Date.now() };
    const { stdout, stderr } = this.logs;
    this.#kept = {
      ...this.#kept,
      exit: {
        ...exit,
        stdoutBytes: stdout.length,
        stderrBytes: stderr.length,
        stdinOffset: this.#input?.state.offset ?? 0,
      },
    };
    this.#surroundings.store.saveProcess(this.#kept);
    this.#settle(exit);
    // Closed once what was told to it has left.
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection) setTimeout(() => connection.close(), 0);
  }

  #restore(exit: NonNullable<KeptProcess["exit"]>): void {
    this.#input = new ProcessInput({
      sink: { write: async () => false, end: () => undefined },
      offset: exit.stdinOffset,
      isOpen: false,
      ended: this.#ended.promise,
      note: () => undefined,
    });
    const { returncode, timedOut, reason, at } = exit;
    this.#settle({ returncode, timedOut, reason, at });
  }

  #settle(exit: Exit): void {
    this.#exit = exit;
    this.#agentInput?.close();
    this.#intake.end();
    this.#ended.resolve();
  }

  #armTimeout(): void {
    const { killAt } = this.#kept;
    if (killAt === undefined || this.#exit) return;
    this.#timer = setTimeout(() => void this.#kill(), Math.max(0, killAt - Date.now()));
  }

  /** Ends the process at its timeout, even when the kill does nothing. */
  async #kill(): Promise<void> {
    this.#timedOut = true;
    await this.signal("SIGKILL").catch(() => undefined);
    this.#timer = setTimeout(() => this.lose("timeout"), LAST_STEP_MS);
  }
}
