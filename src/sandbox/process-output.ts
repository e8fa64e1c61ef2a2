import type { ByteSource } from "../contract/byte-source.ts";
import { ApiError, asApiError, type ErrorCode } from "../contract/errors.ts";
import { formatEvent, type Cursor } from "../contract/events.ts";
import { OUTPUT_STREAMS, type OutputStream } from "../contract/process.ts";
import { isLive } from "../contract/sandbox.ts";
import { describeEnd } from "./describe.ts";
import type { HostLink } from "./host-link.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { hasEnded, type ProcessRecord } from "./process-record.ts";
import type { Processes } from "./processes.ts";
import type { OutputRequest } from "./rpc.ts";

/** The output of an ended sandbox is kept at least for so long; after it, nothing is to be hoped for. */
export const KEPT_AFTER_END_MS = 3_600_000;

/** Errors of a host that does not have a process, or is not there. */
export const HOST_FAILURES: readonly ErrorCode[] = ["process_not_found", "sandbox_ended", "backend_unavailable"];

/**
 * The output of processes, also after the sandbox's end: from the host while it has it, else what can be said from the
 * records. The host is asked by whoever opens the source; what fails there comes back as the `failure` of a recall.
 */
export class ProcessOutput {
  readonly #processes: Processes;
  readonly #lifecycle: Lifecycle;
  readonly #host: HostLink;
  readonly #now: () => number;

  constructor(processes: Processes, lifecycle: Lifecycle, host: HostLink, now: () => number) {
    this.#processes = processes;
    this.#lifecycle = lifecycle;
    this.#host = host;
    this.#now = now;
  }

  async output(request: OutputRequest): Promise<ByteSource> {
    await this.#processes.find(request.processId);
    try {
      return await this.#ask(request);
    } catch (error) {
      return this.recallOutput(request, failureOf(error));
    }
  }

  async events(processId: string, from: Cursor): Promise<ByteSource> {
    await this.#processes.find(processId);
    try {
      return await this.#host.open().events(processId, from);
    } catch (error) {
      return this.recallEvents(processId, from, failureOf(error));
    }
  }

  /** The output after the host failed to give it: of an ended process the end is known, its bytes are not kept here. */
  async recallOutput(request: OutputRequest, failure: ErrorCode): Promise<ByteSource> {
    const { processId, stream, offset } = request;
    const { process, hasMoved } = await this.#foundAnew(processId, failure);
    if (hasMoved || !hasEnded(process)) return this.#ask(request);
    const length = process.last[`${stream}_bytes`];
    if (offset < length) throw this.#gone(stream, length, failure);
    return { kind: "stream", body: streamOf("") };
  }

  /** The events after the host failed to give them: for a reader who has all output of an ended process, its exit. */
  async recallEvents(processId: string, from: Cursor, failure: ErrorCode): Promise<ByteSource> {
    const { process, hasMoved } = await this.#foundAnew(processId, failure);
    if (hasMoved || !hasEnded(process)) return this.#host.open().events(processId, from);
    const end: Cursor = { stdout: process.last.stdout_bytes, stderr: process.last.stderr_bytes };
    for (const stream of OUTPUT_STREAMS) {
      if (from[stream] < end[stream]) throw this.#gone(stream, end[stream], failure);
    }
    return { kind: "stream", body: streamOf(formatEvent("exit", describeEnd(process), end)) };
  }

  async #ask({ processId, stream, offset, follow }: OutputRequest): Promise<ByteSource> {
    return this.#host.open().output(processId, stream, offset, follow);
  }

  /**
   * Asks what became of the process. `hasMoved`: its host has another address or key than the one that was asked. Throws when the
   * host does not answer.
   */
  async #foundAnew(processId: string, failure: ErrorCode): Promise<{ process: ProcessRecord; hasMoved: boolean }> {
    const hasMoved = failure === "backend_unavailable" && (await this.#host.relocate().catch(() => false));
    return { process: await this.#processes.get(processId), hasMoved };
  }

  #gone(stream: OutputStream, length: number, failure: ErrorCode): ApiError {
    const { state, finishedAt = 0 } = this.#lifecycle.record!;
    const isOver = !isLive(state) && this.#now() > finishedAt + KEPT_AFTER_END_MS;
    if (failure === "backend_unavailable" && !isOver) {
      return new ApiError(failure, { detail: "The host that has the output does not answer.", retryAfter: 5 });
    }
    return new ApiError("output_expired", {
      detail: `The ${stream} of the process is no longer kept; it was ${length} bytes long.`,
      extra: { oldest_offset: length },
    });
  }
}

/** The code of a failure that the records may stand in for; any other is thrown on. */
function failureOf(error: unknown): ErrorCode {
  const code = asApiError(error)?.code;
  if (!code || !HOST_FAILURES.includes(code)) throw error;
  return code;
}

/** RPC carries streams of bytes only. */
function streamOf(text: string): ReadableStream<Uint8Array> {
  return new ReadableStream({
    type: "bytes",
    start(controller) {
      if (text !== "") controller.enqueue(new TextEncoder().encode(text));
      controller.close();
    },
  });
}
