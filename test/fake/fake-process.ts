import { ApiError } from "../../src/contract/errors.ts";
import type { ExecSpec, ProcessStatus } from "../../src/contract/host-protocol.ts";
import {
  MAX_INLINE_OUTPUT_BYTES,
  signalOfReturncode,
  SIGNALS,
  type OutputStream,
  type ProcessFinishReason,
  type SignalName,
  type TerminalSize,
} from "../../src/contract/process.ts";
import { FakeLog } from "./fake-log.ts";
import { FakeTerminal } from "./fake-terminal.ts";

const encoder = new TextEncoder();
/** They do not end a process that does not ask for them. */
const HARMLESS: readonly SignalName[] = ["SIGCONT", "SIGWINCH", "SIGSTOP", "SIGTSTP"];

/** A process in memory. What it does in time happens when it is next looked at: it owns no timer of any object. */
export class FakeProcess {
  readonly spec: ExecSpec;
  readonly stdout = new FakeLog();
  readonly stderr = new FakeLog();
  readonly terminal: FakeTerminal | undefined;
  /** What the program does with its input, and at the end of it. */
  onInput: (bytes: Uint8Array) => void = () => {};
  onInputEnd: () => void = () => {};
  returncode: number | null = null;
  finishReason: ProcessFinishReason | undefined;
  timedOut = false;
  exitedAt: number | undefined;
  /** Bytes that the process was given in all. */
  stdinOffset = 0;
  isStdinClosed = false;
  readonly #startedAt = Date.now();
  #scheduled: { at: number; run: () => void }[] = [];

  constructor(spec: ExecSpec) {
    this.spec = spec;
    if (spec.pty) this.terminal = new FakeTerminal(spec.pty, this);
  }

  /** False where its input ended before anybody could give it any. */
  get hasInput(): boolean {
    return this.spec.open_stdin === true || this.terminal !== undefined;
  }

  /** Gives the process the input that it starts with, once its program listens. */
  begin(): void {
    if (this.spec.stdin !== undefined) this.input(bytesOf(this.spec.stdin));
    if (!this.hasInput) this.endInput();
  }

  write(stream: OutputStream, content: string | Uint8Array): void {
    const bytes = typeof content === "string" ? encoder.encode(content) : content;
    if (this.terminal) return this.stdout.append(this.terminal.written(bytes));
    if (this.spec[stream] !== "ignore") this[stream].append(bytes);
  }

  /** Throws where it takes no input, and never will. */
  requireInput(): void {
    if (this.returncode !== null) throw new ApiError("process_ended");
    if (!this.hasInput) throw new ApiError("stdin_closed");
  }

  input(bytes: Uint8Array): void {
    this.stdinOffset += bytes.length;
    if (this.terminal) this.terminal.typed(bytes);
    else this.onInput(bytes);
  }

  endInput(): void {
    if (this.isStdinClosed) return;
    this.isStdinClosed = true;
    this.onInputEnd();
  }

  /** Runs this so long after the start. */
  after(ms: number, run: () => void): void {
    this.#scheduled.push({ at: this.#startedAt + ms, run });
  }

  /** Lets happen what is due. */
  tick(now = Date.now()): this {
    const timeoutAt = this.spec.timeout_ms === undefined ? Infinity : this.#startedAt + this.spec.timeout_ms;
    const due = this.#scheduled.filter(({ at }) => at <= Math.min(now, timeoutAt));
    this.#scheduled = this.#scheduled.filter((one) => !due.includes(one));
    for (const { run } of due.toSorted((a, b) => a.at - b.at)) if (this.returncode === null) run();
    if (now >= timeoutAt && this.returncode === null) {
      this.timedOut = true;
      this.exit(137, "timeout");
    }
    return this;
  }

  exit(returncode: number, reason?: ProcessFinishReason): void {
    if (this.returncode !== null) return;
    this.returncode = returncode;
    this.finishReason = reason ?? (signalOfReturncode(returncode) ? "signaled" : "exited");
    this.exitedAt = Date.now();
    this.isStdinClosed = true;
  }

  signal(signal: SignalName): void {
    if (!HARMLESS.includes(signal)) this.exit(128 + SIGNALS[signal]);
  }

  resize(size: TerminalSize): void {
    if (!this.terminal) throw new ApiError("not_a_terminal");
    this.terminal.size = size;
  }

  /** The status; with the output of one that was waited for. */
  status(withOutput: boolean): ProcessStatus {
    const [stdout, stderr] = [this.stdout.first(MAX_INLINE_OUTPUT_BYTES), this.stderr.first(MAX_INLINE_OUTPUT_BYTES)];
    return {
      process_id: this.spec.process_id,
      returncode: this.returncode,
      timed_out: this.timedOut,
      ...(this.finishReason && { finish_reason: this.finishReason }),
      ...(this.exitedAt !== undefined && { exited_at: this.exitedAt }),
      stdout_bytes: this.stdout.length,
      stderr_bytes: this.stderr.length,
      ...(withOutput && {
        output: {
          stdout: base64Of(stdout),
          stderr: base64Of(stderr),
          stdout_truncated: this.stdout.length > stdout.length,
          stderr_truncated: this.stderr.length > stderr.length,
        },
      }),
    };
  }
}

export const bytesOf = (base64: string): Uint8Array =>
  Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

export function base64Of(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 32_768) binary += String.fromCharCode(...bytes.subarray(at, at + 32_768));
  return btoa(binary);
}
