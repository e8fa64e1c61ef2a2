import {
  KILLED_RETURNCODE,
  SIGNALS,
  type OutputStream,
  type ProcessFinishReason,
  type SignalName,
  type TerminalSize,
} from "../../contract/process.ts";
import { hasCode } from "../../contract/errors.ts";
import type { Exit, ObservedProcess } from "../../process/observed-process.ts";
import { ProcessInput } from "../../process/process-input.ts";
import { AgentConnection, unreachable, withTimeLimit } from "./agent/connection.ts";
import { frame, list, nonsense, numberAt, resizeFrame, type Frame } from "./agent/frames.ts";
import { readJoined, type Joined } from "./agent/joined.ts";
import { AgentInput, closedInput } from "./agent-input.ts";
import { exitOf } from "./exit-frame.ts";
import { OutputIntake } from "./output-intake.ts";
import { ProcessDeadline } from "./process-deadline.ts";
import { ProcessEnd } from "./process-end.ts";
import type { ProcessSurroundings } from "./process-surroundings.ts";
import type { SqliteLog } from "./sqlite-log.ts";
import type { KeptProcess } from "./store.ts";

/** An agent that is gone, or speaks nonsense, is called again after so long, then after longer. */
const RECONNECT_MS = 200;
const MAX_RECONNECT_MS = 5_000;

/** One process of a container: its connection to the agent, its output on the way to the storage, its end. */
export class CloudflareProcess implements ObservedProcess {
  readonly id: string;
  readonly #surroundings: ProcessSurroundings;
  readonly #intake: OutputIntake;
  readonly #end = new ProcessEnd();
  #kept: KeptProcess;
  #connection: AgentConnection | undefined;
  #agentInput: AgentInput | undefined;
  #input: ProcessInput | undefined;
  readonly #deadline = new ProcessDeadline(
    () => void this.signal("SIGKILL").catch(() => undefined),
    () => this.lose("timeout"),
  );

  constructor(kept: KeptProcess, surroundings: ProcessSurroundings) {
    this.id = kept.processId;
    this.#kept = kept;
    this.#surroundings = surroundings;
    const endedAt = kept.exit && { stdout: kept.exit.stdoutBytes, stderr: kept.exit.stderrBytes };
    this.#intake = new OutputIntake(surroundings.store, kept.seq, endedAt, () => surroundings.stored());
    if (kept.exit) this.#restore(kept.exit);
  }

  get seq(): number {
    return this.#kept.seq;
  }

  get logs(): Record<OutputStream, SqliteLog> {
    return this.#intake.logs;
  }

  get ended(): Promise<void> {
    return this.#end.reached;
  }

  get exit(): Exit | undefined {
    return this.#end.exit;
  }

  get input(): ProcessInput | undefined {
    return this.#input;
  }

  get resize(): ((size: TerminalSize) => Promise<void>) | undefined {
    if (!this.#kept.isTerminal) return undefined;
    return (size) => this.#say(resizeFrame(size));
  }

  onEnd(listener: () => void): () => void {
    return this.#end.listen(listener);
  }

  /** Takes care of a process that the agent has just started. `isFollowed`: a reader of all its output is on its way. */
  begin(connection: AgentConnection, joined: Joined, isFollowed: boolean): void {
    for (const { holds } of Object.values(this.logs)) {
      if (isFollowed) holds.awaitAnyone(0);
      else holds.expectAnyone(0);
    }
    this.#join(connection, joined);
    this.#deadline.arm(this.#kept.killAt);
  }

  /** Takes up a process that an earlier life of the object started. Undefined when the agent does not know it. */
  async resume(): Promise<AgentConnection | undefined> {
    for (const log of Object.values(this.logs)) log.awaitReturn();
    this.#deadline.arm(this.#kept.killAt);
    return this.#attach();
  }

  async signal(signal: SignalName): Promise<void> {
    if (!this.exit) await this.#say(frame("S", Uint8Array.of(SIGNALS[signal])));
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
    const timedOut = this.#deadline.isOver;
    this.#finish({ returncode: KILLED_RETURNCODE, timedOut, reason: timedOut ? "timeout" : reason });
  }

  /**
   * Takes in what the agent says of the process, over as many connections as it takes, until it has ended. Without a
   * connection it makes one.
   */
  async run(connection: AgentConnection | undefined): Promise<void> {
    let pauseMs = RECONNECT_MS;
    while (!this.exit) {
      const began = Date.now();
      if (connection) await this.#listen(connection);
      if (this.exit) break;
      this.#connection = undefined;
      if (Date.now() - began > MAX_RECONNECT_MS) pauseMs = RECONNECT_MS;
      await this.#whileRunning(pauseMs);
      pauseMs = Math.min(MAX_RECONNECT_MS, pauseMs * 2);
      if (!this.#surroundings.isRunning()) return this.lose(this.#surroundings.endedBecause());
      try {
        connection = await this.#attach();
        if (!connection) this.lose("host_lost");
      } catch {
        connection = undefined;
      }
    }
  }

  /** Waits, but not for a container that has gone. */
  async #whileRunning(ms: number): Promise<void> {
    for (const until = Date.now() + ms; Date.now() < until && this.#surroundings.isRunning();) {
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
    }
  }

  async #say(what: Uint8Array): Promise<void> {
    if (!this.#connection) throw unreachable();
    await withTimeLimit(this.#connection.send(what));
  }

  /** Connects to the agent again, from where the output is stored. Undefined when it does not know the process. */
  async #attach(): Promise<AgentConnection | undefined> {
    const { stdout, stderr } = this.logs;
    const from = list(this.id, String(stdout.length), String(stderr.length));
    const connection = await AgentConnection.open(this.#surroundings.agent(), "A", from);
    try {
      const { payload } = await connection.answer("r", ["process_not_found"]);
      this.#join(connection, readJoined(payload));
      return connection;
    } catch (error) {
      connection.close();
      if (hasCode(error, "process_not_found")) return undefined;
      throw error;
    }
  }

  #join(connection: AgentConnection, { received, isInputOpen }: Joined): void {
    this.#connection = connection;
    this.#agentInput ??= new AgentInput(received, () => this.#intake.expectAnswer());
    this.#agentInput.connect(connection, received);
    this.#input ??= new ProcessInput({
      sink: this.#agentInput,
      offset: received,
      isOpen: isInputOpen,
      ended: this.#end.reached,
      note: () => undefined,
    });
    this.#intake.connect(connection);
    // Its time was up while nobody was connected.
    if (this.#deadline.isOver) connection.tell(frame("S", Uint8Array.of(SIGNALS.SIGKILL)));
  }

  async #listen(connection: AgentConnection): Promise<void> {
    try {
      for (let next = await connection.next(); next && !this.exit; next = await connection.next()) {
        this.#take(next);
      }
    } catch (error) {
      console.error(`What the agent says of ${this.id} is not understood.`, error);
    } finally {
      this.#intake.settle();
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
    // One that ended by itself just before it was killed has ended by itself.
    if (this.#deadline.isOver && exit.returncode === KILLED_RETURNCODE) this.lose("timeout");
    else this.#finish({ ...exit, timedOut: false });
  }

  #finish(end: Omit<Exit, "at">): void {
    if (this.exit) return;
    this.#deadline.clear();
    this.#intake.settle();
    const exit = { ...end, at: Date.now() };
    const [stdoutBytes, stderrBytes] = [this.logs.stdout.length, this.logs.stderr.length];
    const stdinOffset = this.#input?.state.offset ?? 0;
    this.#kept = { ...this.#kept, exit: { ...exit, stdoutBytes, stderrBytes, stdinOffset } };
    this.#surroundings.store.saveProcess(this.#kept);
    this.#settle(exit);
    // From here on the agent may forget it.
    this.#connection?.tell(frame("D"));
    this.#connection?.close();
    this.#connection = undefined;
  }

  #restore(exit: NonNullable<KeptProcess["exit"]>): void {
    this.#input = closedInput(exit.stdinOffset, this.#end.reached);
    const { returncode, timedOut, reason, at } = exit;
    this.#settle({ returncode, timedOut, reason, at });
  }

  #settle(exit: Exit): void {
    this.#agentInput?.close();
    this.#intake.end();
    this.#end.reach(exit);
  }
}
