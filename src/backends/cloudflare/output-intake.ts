import { OUTPUT_STREAMS, type OutputStream } from "../../contract/process.ts";
import type { AgentConnection } from "./agent/connection.ts";
import { frame, nonsense, numberAt, numbers } from "./agent/frames.ts";
import { SqliteLog } from "./sqlite-log.ts";
import type { CloudflareStore } from "./store.ts";

/** How often it is looked at whether a process that is held may go on. */
const HELD_POLL_MS = 250;

/**
 * The output of a process on its way from the agent into the storage. What is stored is acknowledged, and the agent holds the
 * process back when too much is not: that is how a process waits for its readers, and for its object.
 */
export class OutputIntake {
  readonly logs: Record<OutputStream, SqliteLog>;
  readonly #unacknowledged = new Set<OutputStream>();
  #connection: AgentConnection | undefined;
  #poll: ReturnType<typeof setTimeout> | undefined;

  /** `endedAt`: the lengths of outputs that have ended. */
  constructor(store: CloudflareStore, seq: number, endedAt: Record<OutputStream, number> | undefined) {
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

  /** Stores what an output frame holds. Throws when that is not what comes next. */
  take(stream: OutputStream, payload: Uint8Array): void {
    const log = this.logs[stream];
    if (numberAt(payload, 0) !== log.length || log.isOverrun) throw nonsense();
    log.append(payload.subarray(8));
    this.#unacknowledged.add(stream);
    this.#acknowledge();
  }

  /** Nothing more comes. */
  end(): void {
    clearTimeout(this.#poll);
    this.#connection = undefined;
    this.#unacknowledged.clear();
    for (const log of Object.values(this.logs)) log.end();
  }

  /** Tells the agent what is stored, unless a reader is so far behind that the process is to wait for it. */
  #acknowledge(): void {
    const due = [...this.#unacknowledged].filter((stream) => this.logs[stream].hasRoom);
    for (const stream of due) this.#unacknowledged.delete(stream);
    if (due.length > 0) {
      const upTo = (log: SqliteLog) => (log.hasRoom ? log.length : 0);
      this.#connection?.tell(frame("a", numbers(upTo(this.logs.stdout), upTo(this.logs.stderr))));
    }
    // Readers that move let it go on, and so does time: those that do not are not waited for.
    if (this.#unacknowledged.size === 0 || this.#poll !== undefined) return;
    this.#poll = setTimeout(() => {
      this.#poll = undefined;
      this.#acknowledge();
    }, HELD_POLL_MS);
  }
}
