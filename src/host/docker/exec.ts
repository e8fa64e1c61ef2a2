import { existsSync } from "node:fs";
import type { Duplex } from "node:stream";
import { PassThrough, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError } from "../../contract/errors.ts";
import type { SignalName } from "../../contract/process.ts";
import type { Spawned } from "../runtime.ts";
import { Demultiplexer } from "./demultiplexer.ts";
import { type Engine, EngineError, type ExecInspectInfo } from "./engine.ts";
import { PROCESS_MARK, signalGroup, signalMarked } from "./group-signal.ts";
import { cannotRunCode, readableReason } from "./start-reason.ts";

const KILLED = 137;
/** How long the output must be silent after the end before a child that still holds it is given up on. */
const SILENCE_MS = 50;
/** An engine that answers later than this is far away or too busy for a short silence to mean anything. */
const PROMPT_ANSWER_MS = 25;
const LONG_SILENCE_MS = 1_000;
/** How long output may go on after the end, but for the time that a slow reader holds it back. */
const LAST_OUTPUT_MS = 2_000;
/** A reader this slow does not hold back the news that the process has ended. */
const SLOW_READER_MS = 250;
const FIRST_POLL_MS = 3;
const MAX_POLL_MS = 250;
/** How long an engine may take to tell the code of a process whose container has ended, or after it went away itself. */
const LATE_CODE_MS = 1_000;
const ENGINE_AWAY_MS = 30_000;
const START_REPORT_MS = 5_000;
/** The reasons that lie in the program or its folder; others come of a container that is just going. */
const PROGRAM_REASON = /^exec:? |^chdir |executable file not found|exec format/;
const START_FAILED = /^OCI runtime exec failed: /;

export interface ExecContext {
  engine: Engine;
  containerId: string;
  /** Resolves when the container has ended. */
  containerEnded: Promise<unknown>;
  /** Whether pids that the engine names are pids of this machine that we may signal. */
  direct: boolean;
  hasTools: boolean;
}

export interface ExecRequest {
  process_id: string;
  command: string[];
  env: Record<string, string>;
  workdir?: string | undefined;
}

/** Starts a process by the engine's own exec. Throws `sandbox_ended`. */
export async function spawnExec(context: ExecContext, request: ExecRequest): Promise<Spawned> {
  const env = { ...request.env, ...(context.direct ? {} : { [PROCESS_MARK]: request.process_id }) };
  const lines = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  try {
    const execId = await context.engine.createExec(context.containerId, request.command, lines, request.workdir);
    return new ExecProcess(context, request.process_id, execId, await context.engine.startExec(execId));
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    if (isContainerGone(error)) throw new ApiError("sandbox_ended", { cause: error });
    if (!isRefusedProgram(error)) throw error;
    return notRun(readableReason(error.message));
  }
}

/** Also of a container that the engine still knows and that has ended. */
function isContainerGone({ status, message }: EngineError): boolean {
  return status === 404 || (status === 409 && /not running|on running containers/i.test(message));
}

/** Newer engines refuse the start itself; older ones write the reason to stdout and end. */
function isRefusedProgram(error: EngineError): boolean {
  const known =
    /OCI runtime exec failed|executable file|no such file|permission denied|chdir|not a directory|exec format/i;
  return (error.status === 400 || error.status === 500) && known.test(error.message);
}

function notRun(reason: string): Spawned {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  stdout.end();
  stderr.end(`${reason}\n`);
  const stdin = new Writable({ write: (_chunk, _encoding, done) => done() });
  return { stdin, stdout, stderr, exited: Promise.resolve(cannotRunCode(reason)), kill: async () => undefined };
}

class ExecProcess implements Spawned {
  readonly stdin: Writable;
  readonly stdout: PassThrough;
  readonly stderr: PassThrough;
  readonly exited: Promise<number>;
  readonly #context: ExecContext;
  readonly #processId: string;
  readonly #execId: string;
  readonly #connection: Duplex;
  readonly #output: Demultiplexer;
  #pid = 0;
  #code: number | undefined;
  #failure: string | undefined;
  #containerEndedAt: number | undefined;

  constructor(context: ExecContext, processId: string, execId: string, connection: Duplex) {
    this.#context = context;
    this.#processId = processId;
    this.#execId = execId;
    this.#connection = connection;
    this.#output = new Demultiplexer((first) => this.#isOwnOutput(first));
    this.stdout = this.#output.stdout;
    this.stderr = this.#output.stderr;
    this.stdin = stdinOf(connection);
    const closed = new Promise<void>((resolve) => {
      this.#output.once("close", resolve);
      connection.once("close", () => this.#output.end());
    });
    connection.on("error", () => this.#output.end()).pipe(this.#output);
    void context.containerEnded.then(() => (this.#containerEndedAt = Date.now()));
    const exited = Promise.withResolvers<number>();
    this.exited = exited.promise;
    void this.#run(closed, exited.resolve).catch(() => exited.resolve(KILLED));
  }

  async kill(signal: SignalName): Promise<void> {
    const { engine, containerId, direct, hasTools } = this.#context;
    if (!direct) {
      if (this.#code === undefined)
        await signalMarked(engine, { containerId, mark: this.#processId, signal, hasTools });
      return;
    }
    const deadline = Date.now() + START_REPORT_MS;
    while (this.#code === undefined && this.#pid === 0 && Date.now() < deadline) {
      await this.#look();
      if (this.#pid === 0) await sleep(FIRST_POLL_MS);
    }
    if (this.#code === undefined && this.#pid > 0) signalGroup(containerId, this.#pid, signal);
  }

  /** Follows the process to its end, normally told once the output is through as well. */
  async #run(closed: Promise<void>, tellExit: (code: number) => void): Promise<void> {
    let open = true;
    void closed.then(() => (open = false));
    for (let pause = SILENCE_MS; open; pause = Math.min(pause * 1.5, MAX_POLL_MS)) {
      await Promise.race([closed, sleep(pause)]);
      if (open && (await this.#hasEnded()) && (await this.#isThrough(() => open, tellExit))) break;
    }
    const code = await this.#exitCode();
    this.#output.endOutput();
    this.#connection.destroy();
    tellExit(this.#failure === undefined ? code : cannotRunCode(this.#failure));
  }

  /** Whether the process itself is gone, whoever still holds its output. */
  async #hasEnded(): Promise<boolean> {
    if (this.#code !== undefined || this.#containerEndedAt !== undefined) return true;
    if (this.#pid === 0 || !this.#context.direct) await this.#look();
    // Cheaper than a call, and known before an engine that is still busy with an earlier exec tells.
    return this.#code !== undefined || (this.#context.direct && this.#pid > 0 && !existsSync(`/proc/${this.#pid}`));
  }

  /** Waits for the silence that means nothing more is on its way from the engine. */
  async #isThrough(isOpen: () => boolean, tellExit: (code: number) => void): Promise<boolean> {
    // Something in the background may never be silent.
    for (let leftMs = LAST_OUTPUT_MS; isOpen() && leftMs > 0;) {
      const gone = this.#containerEndedAt !== undefined && Date.now() - this.#containerEndedAt > LATE_CODE_MS;
      const code = this.#code ?? (gone ? KILLED : undefined);
      if (code !== undefined && this.#output.heldMs > SLOW_READER_MS) tellExit(code);
      const pause = Math.max(1, SILENCE_MS - this.#output.silentMs);
      await sleep(pause);
      if (this.#output.heldMs === 0) leftMs -= pause;
      if (this.#output.silentMs < SILENCE_MS) continue;
      const askedAt = performance.now();
      await this.#look();
      const enough = performance.now() - askedAt < PROMPT_ANSWER_MS ? SILENCE_MS : LONG_SILENCE_MS;
      if (this.#output.silentMs >= enough) return true;
    }
    return true;
  }

  async #exitCode(): Promise<number> {
    let lastAnswerAt = Date.now();
    for (let pause = FIRST_POLL_MS; ; pause = Math.min(pause * 2, MAX_POLL_MS)) {
      const state = await this.#look();
      if (this.#code !== undefined) return this.#code;
      if (state === "gone") return (this.#code = KILLED);
      if (state === "ended or running") lastAnswerAt = Date.now();
      const ended = this.#containerEndedAt !== undefined && Date.now() - this.#containerEndedAt > LATE_CODE_MS;
      if (ended || Date.now() - lastAnswerAt > ENGINE_AWAY_MS) return (this.#code = KILLED);
      await sleep(pause);
    }
  }

  /** Asks the engine once and keeps what it says. */
  async #look(): Promise<"ended or running" | "gone" | "unknown"> {
    try {
      const info: ExecInspectInfo = await this.#context.engine.inspectExec(this.#execId);
      this.#pid = info.Pid || this.#pid;
      // Before the start is through, the engine says "not running" without a code.
      if (!info.Running && typeof info.ExitCode === "number" && info.ExitCode >= 0) this.#code ??= info.ExitCode;
      return "ended or running";
    } catch (error) {
      return error instanceof EngineError && error.status === 404 ? "gone" : "unknown";
    }
  }

  /**
   * Whether the first bytes of stdout are the program's. An engine that cannot start it writes its reason there; a program may
   * print the same words, but only one that never ran has no pid.
   */
  async #isOwnOutput(first: Buffer): Promise<boolean> {
    const text = first.toString();
    if (!START_FAILED.test(text)) return true;
    const deadline = Date.now() + START_REPORT_MS;
    while (this.#pid === 0 && this.#code === undefined && Date.now() < deadline) {
      await this.#look();
      await sleep(FIRST_POLL_MS);
    }
    if (this.#pid !== 0) return true;
    const reason = readableReason(text);
    if (!PROGRAM_REASON.test(reason)) await Promise.race([this.#context.containerEnded, sleep(LATE_CODE_MS)]);
    if (this.#containerEndedAt !== undefined) {
      this.#code = KILLED;
      return false;
    }
    this.#failure = reason;
    this.stderr.write(`${this.#failure}\n`);
    return false;
  }
}

/** The program's stdin. Its end half-closes the connection; what is written after the program's end is dropped, as by a pipe to nowhere. */
function stdinOf(connection: Duplex): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (!connection.writable) return done();
      // The connection may close without calling back.
      const settle = () => {
        connection.off("close", settle);
        done();
        done = () => undefined;
      };
      connection.once("close", settle);
      connection.write(chunk, settle);
    },
    final(done) {
      if (connection.writable) connection.end();
      done();
    },
  });
}
