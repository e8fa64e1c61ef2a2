import type { OutputStream, ProcessFinishReason, TerminalSize } from "../contract/process.ts";
import type { OutputLog } from "./output-log.ts";
import type { ProcessInput } from "./process-input.ts";

/** How a process ended; `at` in milliseconds since 1970. */
export interface Exit {
  returncode: number;
  timedOut: boolean;
  reason: ProcessFinishReason;
  at: number;
}

/** A process as those see it who read its output, give it input or wait for its end. */
export interface ObservedProcess {
  readonly id: string;
  readonly logs: Readonly<Record<OutputStream, OutputLog>>;
  /** How it ended; undefined until its output is complete, too. */
  readonly exit: Exit | undefined;
  /** Resolves when the process has ended and its output is complete. Never rejects. */
  readonly ended: Promise<void>;
  /** Calls at its end, which is still to come (no `exit` yet); the answer unsubscribes. For those who ask again and again. */
  onEnd(listener: () => void): () => void;
  /** Undefined where the process was never there, or is no more. */
  readonly input: ProcessInput | undefined;
  /** Sets the size of its terminal; undefined where it has none. */
  readonly resize: ((size: TerminalSize) => Promise<void>) | undefined;
  /** Does not wait for readers that nobody has seen yet. */
  hurry(): void;
}
