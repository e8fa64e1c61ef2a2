import type { ExecSpec } from "../contract/host-protocol.ts";
import {
  KILLED_RETURNCODE,
  signalOfReturncode,
  type OutputStream,
  type ProcessFinishReason,
  type SignalName,
  type TerminalSize,
} from "../contract/process.ts";
import type { Exit, ObservedProcess } from "../process/observed-process.ts";
import { ProcessInput } from "../process/process-input.ts";
import type { JournaledProcess } from "./journal.ts";
import { lastOutput, untilDrained } from "./last-output.ts";
import type { ProcessLog } from "./logs/process-log.ts";
import type { Pump } from "./logs/pump.ts";
import type { ProcessOutput, Spawned } from "./runtime.ts";
import { callAt, settlesWithin, tooSlow, withTimeLimit } from "./time-limit.ts";
import { WritableSink } from "./writable-sink.ts";

/** How long a killed process may take to go. */
const LAST_STEP_MS = 5_000;

export interface ProcessParts {
  id: string;
  stdout: ProcessLog;
  stderr: ProcessLog;
  pump: Pump;
  /** Keeps what must be known after a restart. */
  note(line: Omit<JournaledProcess, "id"> & { isStdinClosed?: true }): void;
  /** The same of what is about to happen. Throws when it cannot be kept. */
  announce(line: Omit<JournaledProcess, "id">): void;
  /** How often the kernel has killed in this container for want of memory. */
  oomKills(): number | undefined;
}

/** One process of a container: its output, its input, its end. */
export class HostProcess implements ObservedProcess {
  readonly id: string;
  readonly logs: Record<OutputStream, ProcessLog>;
  readonly #parts: ProcessParts;
  readonly #ended = Promise.withResolvers<void>();
  readonly #exited = Promise.withResolvers<void>();
  readonly #endListeners = new Set<() => void>();
  readonly #lost = Promise.withResolvers<ProcessFinishReason>();
  #spawned: Spawned | undefined;
  #input: ProcessInput | undefined;
  #exit: Exit | undefined;
  #hasExited = false;
  #timedOut = false;
  #oomKillsBefore = 0;
  #killAt: number | undefined;

  constructor(parts: ProcessParts) {
    void this.#ended.promise.then(() => {
      for (const listener of this.#endListeners) listener();
    });
    this.id = parts.id;
    this.#parts = parts;
    this.logs = { stdout: parts.stdout, stderr: parts.stderr };
  }

  /** Resolves when the process has ended and its output is complete. Never rejects. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Calls at its end, which is still to come (no `exit` yet); the answer unsubscribes. For those who ask again and again. */
  onEnd(listener: () => void): () => void {
    this.#endListeners.add(listener);
    return () => this.#endListeners.delete(listener);
  }

  /** How it ended; undefined until its output is complete, too. */
  get exit(): Exit | undefined {
    return this.#exit;
  }

  get hasExited(): boolean {
    return this.#hasExited;
  }

  /** Undefined where the process was never there, or is no more. */
  get input(): ProcessInput | undefined {
    return this.#input;
  }

  get resize(): ((size: TerminalSize) => Promise<void>) | undefined {
    const spawned = this.#spawned;
    return spawned?.resize && ((size) => spawned.resize!(size));
  }

  /** Keeps the output from its first byte on: for readers that were announced, or for a moment for those that may come. */
  awaitReaders(areAnnounced: boolean): void {
    for (const { holds } of Object.values(this.logs)) {
      if (areAnnounced) holds.awaitAnyone(0);
      else holds.expectAnyone(0);
    }
  }

  /** Does not wait for readers that nobody has seen yet. */
  hurry(): void {
    for (const log of Object.values(this.logs)) {
      log.holds.expectNobody();
      log.readerMoved();
    }
  }

  /** Before anything is started: whatever happens to this daemon from here on, the next one knows of it. */
  announce(spec: Pick<ExecSpec, "open_stdin" | "pty" | "timeout_ms" | "user" | "is_probe">): void {
    const isOpen = spec.open_stdin === true || spec.pty !== undefined;
    if (spec.timeout_ms !== undefined) this.#killAt = Date.now() + spec.timeout_ms;
    this.#parts.announce({
      ...(spec.is_probe && { isProbe: true }),
      ...(spec.user === undefined && spec.pty === undefined && { isPlain: true }),
      ...(this.#killAt !== undefined && { killAt: this.#killAt }),
      ...(isOpen && { stdinOffset: 0 }),
    });
  }

  /** Takes care of a process that has just been started. */
  begin(spawned: Spawned, spec: Pick<ExecSpec, "stdin" | "open_stdin" | "pty">): void {
    const isOpen = spec.open_stdin === true || spec.pty !== undefined;
    if (spawned.handle !== undefined) this.#parts.note({ handle: spawned.handle });
    this.#take(spawned, 0, isOpen || spec.stdin !== undefined);
    if (spec.stdin !== undefined) {
      const bytes = Buffer.from(spec.stdin, "base64");
      void this.#input!.write(only(bytes), { eof: !isOpen }).catch(() => {});
    }
  }

  /** Takes care of a process that an earlier daemon started. */
  resume(spawned: Spawned, { stdinOffset, killAt }: JournaledProcess): void {
    this.#killAt = killAt;
    for (const log of Object.values(this.logs)) log.awaitReturn();
    const isOpen = stdinOffset !== undefined && !spawned.isInputLost;
    if (stdinOffset !== undefined && !isOpen) this.#parts.note({ isStdinClosed: true });
    this.#take(spawned, stdinOffset ?? 0, isOpen);
  }

  /** It has ended before this daemon began. */
  restoreExit(exit: Exit): void {
    this.#hasExited = true;
    this.#exit = exit;
    for (const log of Object.values(this.logs)) log.end();
    this.#exited.resolve();
    this.#ended.resolve();
  }

  async signal(signal: SignalName): Promise<void> {
    if (this.#hasExited || !this.#spawned) return;
    await withTimeLimit(this.#spawned.kill(signal), LAST_STEP_MS, tooSlow("The signal"));
  }

  /** Counts it as ended, whatever the runtime says. */
  lose(reason: ProcessFinishReason): void {
    this.#lost.resolve(reason);
  }

  /** Ends it and lets go of its output. */
  remove(): void {
    for (const log of Object.values(this.logs)) log.remove();
  }

  #take(spawned: Spawned, offset: number, isOpen: boolean): void {
    this.#spawned = spawned;
    this.#oomKillsBefore = this.#parts.oomKills() ?? 0;
    this.#input = new ProcessInput({
      sink: new WritableSink(spawned.stdin, this.#exited.promise),
      offset,
      isOpen,
      ended: this.#exited.promise,
      note: ({ offset, closed }) => this.#parts.note(closed ? { isStdinClosed: true } : { stdinOffset: offset }),
    });
    if (!isOpen) spawned.stdin.end();
    this.#run(spawned).catch((error: unknown) => {
      console.error(`sandbar host: the process ${this.id} is given up:`, error);
      void spawned.kill("SIGKILL").catch(() => {});
      this.restoreExit({
        returncode: KILLED_RETURNCODE,
        timedOut: this.#timedOut,
        reason: "host_lost",
        at: Date.now(),
      });
    });
  }

  async #run(spawned: Spawned): Promise<void> {
    const { stdout, stderr } = this.logs;
    const output = Promise.all([this.#carry(stdout, spawned.stdout), this.#carry(stderr, spawned.stderr)]);
    const cancel = this.#killAt === undefined ? undefined : callAt(this.#killAt, () => void this.#kill(spawned));
    const end = await Promise.race([spawned.exited.then((code) => code ?? "sandbox_ended"), this.#lost.promise]);
    cancel?.();
    const exit = this.#judge(end);
    this.#hasExited = true;
    this.#exited.resolve();
    // What lies in the pipes goes with them: it is on the disk before anybody takes the process for done with.
    await untilDrained([stdout, stderr], output);
    // Known for good before the runtime may forget it, and before the last output of others is waited for.
    this.#parts.note({ exit });
    spawned.release();
    await lastOutput([stdout, stderr], output);
    spawned.stdin.destroy();
    this.#exit = exit;
    this.#ended.resolve();
  }

  #carry(log: ProcessLog, output: ProcessOutput): Promise<void> {
    if (output.descriptor) return log.carry(this.#parts.pump, output.descriptor());
    return log.consume(output.stream());
  }

  #judge(end: number | ProcessFinishReason): Exit {
    const at = Date.now();
    if (typeof end !== "number") {
      if (this.#timedOut) end = "timeout";
      return { returncode: KILLED_RETURNCODE, timedOut: this.#timedOut, reason: end, at };
    }
    if (this.#timedOut) return { returncode: KILLED_RETURNCODE, timedOut: true, reason: "timeout", at };
    const wasOutOfMemory = end === KILLED_RETURNCODE && (this.#parts.oomKills() ?? 0) > this.#oomKillsBefore;
    const reason = wasOutOfMemory ? "oom" : signalOfReturncode(end) ? "signaled" : "exited";
    return { returncode: end, timedOut: false, reason, at };
  }

  /** Ends the process at its timeout, even when the kill does nothing. */
  async #kill(spawned: Spawned): Promise<void> {
    this.#timedOut = true;
    void spawned.kill("SIGKILL").catch(() => {});
    if (!(await settlesWithin(spawned.exited, LAST_STEP_MS))) this.lose("timeout");
  }
}

async function* only(bytes: Buffer): AsyncIterable<Buffer> {
  yield bytes;
}
