import type { Duplex } from "node:stream";
import { PassThrough, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { SignalName, TerminalSize } from "../../contract/process.ts";
import { noInput } from "../launcher/input.ts";
import { END_OF_TRANSMISSION } from "../linux/terminal.ts";
import type { ProcessOutput, Spawned, SpawnSpec } from "../runtime.ts";
import { Demultiplexer } from "./demultiplexer.ts";
import type { ExecContext } from "./exec-context.ts";
import { outputOf } from "./exec-output.ts";
import { ExecState } from "./exec-state.ts";
import { cannotRunCode, readableReason } from "./start-reason.ts";

/** How long the output must be silent after the end before a child that still holds it is given up on. */
const SILENCE_MS = 50;
/** An engine that answers later than this is far away or too busy for a short silence to mean anything. */
const PROMPT_ANSWER_MS = 25;
const LONG_SILENCE_MS = 1_000;
/** How long output may go on after the end, but for the time that a slow reader holds it back. */
const LAST_OUTPUT_MS = 2_000;
/** A reader this slow does not hold back the news that the process has ended. */
const SLOW_READER_MS = 250;
const MAX_POLL_MS = 250;
/** How long the end of a container may lag behind a failed start that it is the reason of. */
const LATE_END_MS = 1_000;
/** The reasons that lie in the program, its user or its folder; others come of a container that is just going. */
const PROGRAM_REASON = /^exec:? |^chdir |executable file not found|exec format|unable to find|no matching entries/;
const START_FAILED = /^(?:OCI runtime exec failed: |unable to find (?:user|group) )/;

/** A process that the engine started for this daemon, on a connection of its own. */
export class ExecProcess implements Spawned {
  readonly handle: string;
  readonly stdin: Writable;
  readonly stdout: ProcessOutput;
  readonly stderr: ProcessOutput;
  readonly exited: Promise<number | undefined>;
  readonly resize?: (size: TerminalSize) => Promise<void>;
  readonly #state: ExecState;
  readonly #connection: Duplex;
  readonly #output: Demultiplexer;
  readonly #reasons: PassThrough | undefined;
  #failure: string | undefined;
  #wentDown = false;

  constructor(context: ExecContext, spec: SpawnSpec, execId: string, connection: Duplex) {
    const isTerminal = spec.pty !== undefined;
    this.handle = execId;
    this.#state = new ExecState(context, spec, execId);
    this.#connection = connection;
    this.#output = new Demultiplexer({ isRaw: isTerminal, review: (first) => this.#isOwnOutput(first) });
    this.stdout = outputOf(this.#output.stdout);
    this.stderr = outputOf(this.#output.stderr);
    if (isTerminal) this.#reasons = this.#output.stdout;
    else if (spec.stderr !== "ignore") this.#reasons = this.#output.stderr;
    if (isTerminal) this.resize = (size) => context.engine.resizeExec(execId, size).catch(() => undefined);
    if (isTerminal || spec.input !== "none") this.stdin = stdinOf(connection, isTerminal);
    else this.stdin = noInput();
    const closed = new Promise<void>((resolve) => {
      this.#output.once("close", resolve);
      connection.once("close", () => this.#output.end());
    });
    connection.on("error", () => this.#output.end()).pipe(this.#output);
    const exited = Promise.withResolvers<number | undefined>();
    this.exited = exited.promise;
    void this.#run(closed, exited.resolve).catch(() => exited.resolve(undefined));
  }

  kill(signal: SignalName): Promise<void> {
    return this.#state.kill(signal);
  }

  release(): void {
    // The engine forgets it by itself.
  }

  /** Follows the process to its end, normally told once the output is through as well. */
  async #run(closed: Promise<void>, tellExit: (code: number | undefined) => void): Promise<void> {
    let open = true;
    void closed.then(() => (open = false));
    for (let pause = SILENCE_MS; open; pause = Math.min(pause * 1.5, MAX_POLL_MS)) {
      await Promise.race([closed, sleep(pause)]);
      if (open && (await this.#state.hasEnded()) && (await this.#isThrough(() => open, tellExit))) break;
    }
    const code = this.#wentDown ? undefined : await this.#state.exitCode();
    this.#output.endOutput();
    this.#connection.destroy();
    tellExit(this.#failure === undefined ? code : cannotRunCode(this.#failure));
  }

  /** Waits for the silence that means nothing more is on its way from the engine. */
  async #isThrough(isOpen: () => boolean, tellExit: (code: number | undefined) => void): Promise<boolean> {
    // Something in the background may never be silent.
    for (let leftMs = LAST_OUTPUT_MS; isOpen() && leftMs > 0;) {
      const isKnown = this.#state.code !== undefined || this.#state.isGone;
      if (isKnown && this.#output.heldMs > SLOW_READER_MS) tellExit(await this.#state.toldCode());
      const pause = Math.max(1, SILENCE_MS - this.#output.silentMs);
      await sleep(pause);
      if (this.#output.heldMs === 0) leftMs -= pause;
      if (this.#output.silentMs < SILENCE_MS) continue;
      const askedAt = performance.now();
      await this.#state.look();
      const enough = performance.now() - askedAt < PROMPT_ANSWER_MS ? SILENCE_MS : LONG_SILENCE_MS;
      if (this.#output.silentMs >= enough) return true;
    }
    return true;
  }

  /**
   * Whether the first bytes of stdout are the program's. An engine that cannot start it writes its reason there; a program may
   * print the same words, but only one that never ran has no pid.
   */
  async #isOwnOutput(first: Buffer): Promise<boolean> {
    const text = first.toString();
    if (!START_FAILED.test(text)) return true;
    await this.#state.started();
    if (this.#state.pid !== 0) return true;
    const reason = readableReason(text);
    const { hasContainerEnded } = this.#state;
    if (!hasContainerEnded && !PROGRAM_REASON.test(reason)) await sleep(LATE_END_MS);
    if (this.#state.hasContainerEnded) this.#wentDown = true;
    else {
      this.#failure = reason;
      this.#reasons?.write(`${reason}${this.resize ? "\r" : ""}\n`);
    }
    return false;
  }
}

/**
 * The program's stdin. Its end half-closes the connection, or is typed on the terminal; what is written after the program's
 * end is dropped, as by a pipe to nowhere.
 */
function stdinOf(connection: Duplex, isTerminal: boolean): Writable {
  return new Writable({
    // The end of what is typed on a terminal is not the end of the terminal.
    autoDestroy: !isTerminal,
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
      if (connection.writable && isTerminal) connection.write(END_OF_TRANSMISSION);
      else if (connection.writable) connection.end();
      done();
    },
  });
}
