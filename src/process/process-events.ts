import { asApiError } from "../contract/errors.ts";
import { formatEvent, type Cursor, type ExitEvent } from "../contract/events.ts";
import { toProblem } from "../contract/problem.ts";
import { OUTPUT_STREAMS, signalOfReturncode, type OutputStream } from "../contract/process.ts";
import type { ToBase64 } from "./base64.ts";
import type { LogReader } from "./log-reader.ts";
import type { ObservedProcess } from "./observed-process.ts";

/** The event stream of a process as it comes. Close it. */
export interface ProcessEvents {
  /** The next events, as text; undefined after the last. */
  next(): Promise<string | undefined>;
  close(isCut?: boolean): void;
}

interface Chunk {
  stream: OutputStream;
  bytes: Uint8Array;
  offset: number;
}

/** Both outputs of a process from these offsets, then its end. Throws `output_expired`. */
export function processEvents(process: ObservedProcess, from: Cursor, toBase64: ToBase64): ProcessEvents {
  const merged = new MergedOutput(process, from);
  let isLast = false;
  return {
    async next() {
      if (isLast) return undefined;
      try {
        const chunk = await merged.next();
        if (chunk) {
          const data = { offset: chunk.offset, data: toBase64(chunk.bytes) };
          return formatEvent(chunk.stream, data, merged.cursor);
        }
        isLast = true;
        if (merged.isClosed) return undefined;
        await process.ended;
        return formatEvent("exit", exitEvent(process), merged.cursor);
      } catch (error) {
        const known = asApiError(error);
        if (!known) throw error;
        isLast = true;
        return formatEvent("error", toProblem(known));
      }
    },
    close: (isCut) => merged.close(isCut),
  };
}

/** How a process ended. To be asked once it has. */
export function exitEvent(process: ObservedProcess): ExitEvent {
  const { returncode, timedOut, reason, at } = process.exit!;
  const signal = signalOfReturncode(returncode);
  const { stdout, stderr } = process.logs;
  return {
    returncode,
    timed_out: timedOut,
    ...(signal !== undefined && { signal }),
    finish_reason: reason,
    exited_at: new Date(at).toISOString(),
    stdout_bytes: stdout.length,
    stderr_bytes: stderr.length,
  };
}

/** Two outputs as one sequence of chunks, whichever comes first. */
export class MergedOutput {
  readonly cursor: Cursor;
  readonly #readers: Record<OutputStream, LogReader>;
  #isClosed = false;
  /** Whose turn it is: neither output waits for a busy one. */
  #first: OutputStream = "stdout";

  constructor(process: ObservedProcess, from: Cursor) {
    this.cursor = { ...from };
    const { stdout, stderr } = process.logs;
    // Both are judged before either reader holds anything.
    stdout.requireKept(from.stdout);
    stderr.requireKept(from.stderr);
    this.#readers = { stdout: stdout.read(from.stdout, true), stderr: stderr.read(from.stderr, true) };
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** The next chunk, good until the next call; undefined when both are at their end, or it was closed. */
  async next(): Promise<Chunk | undefined> {
    for (;;) {
      const chunk = this.#take();
      if (chunk !== "none") return chunk;
      await new Promise<void>((resolve) => {
        for (const reader of Object.values(this.#readers)) reader.onWake(resolve);
      });
    }
  }

  close(isCut = false): void {
    this.#isClosed = true;
    for (const reader of Object.values(this.#readers)) reader.close(isCut);
  }

  #take(): Chunk | "none" | undefined {
    let ended = 0;
    const second = this.#first === "stdout" ? "stderr" : "stdout";
    for (const stream of [this.#first, second] as const) {
      const taken = this.#readers[stream].take();
      if (taken.kind === "end") ended++;
      if (taken.kind !== "bytes") continue;
      const offset = this.cursor[stream];
      this.cursor[stream] += taken.bytes.length;
      this.#first = stream === "stdout" ? "stderr" : "stdout";
      return { stream, bytes: taken.bytes, offset };
    }
    return ended === OUTPUT_STREAMS.length ? undefined : "none";
  }
}
