import { OUTPUT_STREAMS, type OutputStream } from "../../contract/process.ts";
import type { AgentConnection } from "./agent/connection.ts";
import { frame, nonsense, numberAt, numbers } from "./agent/frames.ts";
import { SqliteLog } from "./sqlite-log.ts";
import type { CloudflareStore } from "./store.ts";
import { WritePace } from "./write-pace.ts";

/** How often it is looked at whether a process that is held may go on. */
const HELD_POLL_MS = 250;
/** So much is stored at once, whatever the pace. */
const GATHER_BYTES = 64 * 1024;

/**
 * The output of a process on its way from the agent into the storage. What is stored is acknowledged, and the agent holds the
 * process back when too much is not: that is how a process waits for its readers, and for its object.
 */
export class OutputIntake {
  readonly logs: Record<OutputStream, SqliteLog>;
  readonly #stored: () => void;
  /** What has come and is not stored yet. Whatever is lost of it is sent again: it is not acknowledged. */
  #gathered = nothing();
  readonly #pace = new WritePace();
  #gathering: ReturnType<typeof setTimeout> | undefined;
  readonly #unacknowledged = new Set<OutputStream>();
  /** Up to where the agent was told that it is stored. */
  readonly #acknowledged: Record<OutputStream, number> = { stdout: 0, stderr: 0 };
  #connection: AgentConnection | undefined;
  #poll: ReturnType<typeof setTimeout> | undefined;

  /** `endedAt`: the lengths of outputs that have ended. `stored` is called when more has been stored. */
  constructor(
    store: CloudflareStore,
    seq: number,
    endedAt: Record<OutputStream, number> | undefined,
    stored: () => void,
  ) {
    this.#stored = stored;
    const log = (stream: OutputStream) =>
      new SqliteLog(store, seq, stream, { endedAt: endedAt?.[stream], onRoom: () => this.#acknowledge() });
    this.logs = { stdout: log("stdout"), stderr: log("stderr") };
  }

  /** A connection that brings the output from where it is stored. */
  connect(connection: AgentConnection): void {
    this.#connection = connection;
    // What is stored may be more than the agent was ever told.
    for (const stream of OUTPUT_STREAMS) this.#unacknowledged.add(stream);
    this.#acknowledge();
  }

  /** Takes what an output frame holds. Throws when that is not what comes next. */
  take(stream: OutputStream, payload: Uint8Array): void {
    const log = this.logs[stream];
    const gathered = this.#gathered[stream];
    if (numberAt(payload, 0) !== log.length + gathered.bytes || payload.length === 8 || log.isOverrun) throw nonsense();
    gathered.parts.push(payload.slice(8));
    gathered.bytes += payload.length - 8;
    const waitMs = this.#gatheredBytes >= GATHER_BYTES ? 0 : this.#pace.waitMs;
    if (waitMs === 0) this.settle();
    else this.#gathering ??= setTimeout(() => this.#settleInTime(), waitMs);
  }

  /** Somebody's input went to the process: what it answers is stored at once. */
  expectAnswer(): void {
    this.#pace.grant();
  }

  /** Stores all that has come. Throws when the storage takes no more: then the connection is of no use either. */
  settle(): void {
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    if (this.#gatheredBytes === 0) return;
    const gathered = this.#gathered;
    this.#gathered = nothing();
    for (const stream of OUTPUT_STREAMS) {
      const { parts, bytes } = gathered[stream];
      if (bytes === 0) continue;
      this.logs[stream].append(parts.length === 1 ? parts[0]! : joined(parts, bytes));
      this.#unacknowledged.add(stream);
    }
    this.#pace.wrote();
    this.#acknowledge();
    this.#stored();
  }

  get #gatheredBytes(): number {
    return this.#gathered.stdout.bytes + this.#gathered.stderr.bytes;
  }

  #settleInTime(): void {
    try {
      this.settle();
    } catch (error) {
      console.error("Output could not be stored. It is asked for again.", error);
      this.#connection?.close();
    }
  }

  /** Nothing more comes. */
  end(): void {
    this.settle();
    clearTimeout(this.#poll);
    this.#connection = undefined;
    this.#unacknowledged.clear();
    for (const log of Object.values(this.logs)) log.end();
  }

  /** Tells the agent what is stored, unless a reader is so far behind that the process is to wait for it. */
  #acknowledge(): void {
    const due = [...this.#unacknowledged].filter((stream) => this.logs[stream].hasRoom);
    for (const stream of due) {
      this.#unacknowledged.delete(stream);
      this.#acknowledged[stream] = this.logs[stream].length;
    }
    if (due.length > 0) {
      // Both, always: one that is overtaken on its way must not take the other's along.
      const { stdout, stderr } = this.#acknowledged;
      this.#connection?.tellLatest(frame("a", numbers(stdout, stderr)));
    }
    // Readers that move let it go on, and so does time: those that do not are not waited for.
    if (this.#unacknowledged.size === 0 || this.#poll !== undefined) return;
    this.#poll = setTimeout(() => {
      this.#poll = undefined;
      this.#acknowledge();
    }, HELD_POLL_MS);
  }
}

function nothing(): Record<OutputStream, { parts: Uint8Array[]; bytes: number }> {
  return { stdout: { parts: [], bytes: 0 }, stderr: { parts: [], bytes: 0 } };
}

function joined(parts: Uint8Array[], size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
