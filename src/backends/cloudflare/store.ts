import type { ContainerExit } from "../../contract/host-protocol.ts";
import type { OutputStream, ProcessFinishReason } from "../../contract/process.ts";

/** The container, as the object remembers it over its own end. Times are milliseconds since 1970. */
export interface ContainerRecord {
  generation: number;
  /** What the agent inside knows the object by. */
  token: string;
  /** When the container is to be gone, whoever is there to end it. */
  deadlineAt?: number;
  /** How the entrypoint ended, and the container with it. */
  exit?: ContainerExit;
  /** It was stopped, or is to be: nothing of this generation or an older one starts any more. */
  isStopped?: true;
}

/** A process, as far as it must outlive the object. */
export interface KeptProcess {
  /** Counts the processes: names its output. */
  seq: number;
  processId: string;
  isTerminal: boolean;
  /** When it is killed. */
  killAt?: number;
  isProbe?: boolean;
  exit?: {
    returncode: number;
    timedOut: boolean;
    reason: ProcessFinishReason;
    at: number;
    /** Written in all. */
    stdoutBytes: number;
    stderrBytes: number;
    stdinOffset: number;
  };
}

const STREAM_NUMBER: Record<OutputStream, number> = { stdout: 0, stderr: 1 };

/** What this backend keeps in the object's SQLite: the container, its processes, and their output. The one place with its SQL. */
export class CloudflareStore {
  readonly #sql: SqlStorage;
  #outputBytes: number;
  #isDropped = false;

  constructor(storage: DurableObjectStorage) {
    this.#sql = storage.sql;
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS cf_container (id INTEGER PRIMARY KEY CHECK (id = 1), record TEXT NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS cf_processes (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, process_id TEXT NOT NULL UNIQUE, record TEXT NOT NULL,
        stdout_oldest INTEGER NOT NULL DEFAULT 0, stderr_oldest INTEGER NOT NULL DEFAULT 0
      ) STRICT;
      CREATE TABLE IF NOT EXISTS cf_output (
        seq INTEGER NOT NULL, stream INTEGER NOT NULL, start INTEGER NOT NULL, bytes BLOB NOT NULL
      ) STRICT;
      CREATE UNIQUE INDEX IF NOT EXISTS cf_output_by_offset ON cf_output (seq, stream, start);
    `);
    const { bytes } = this.#sql
      .exec<{ bytes: number }>("SELECT coalesce(sum(length(bytes)), 0) AS bytes FROM cf_output")
      .one();
    this.#outputBytes = bytes;
  }

  /** Gives back what it takes of the object's storage: from here on there is no container. */
  drop(): void {
    if (this.#isDropped) return;
    this.#isDropped = true;
    for (const table of ["cf_container", "cf_processes", "cf_output"]) this.#sql.exec(`DROP TABLE ${table}`);
  }

  /** What all outputs take. */
  get outputBytes(): number {
    return this.#outputBytes;
  }

  get container(): ContainerRecord | undefined {
    if (this.#isDropped) return undefined;
    const row = this.#sql.exec<{ record: string }>("SELECT record FROM cf_container").next().value;
    return row && (JSON.parse(row.record) as ContainerRecord);
  }

  saveContainer(record: ContainerRecord): void {
    this.#sql.exec(
      "INSERT INTO cf_container VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
      JSON.stringify(record),
    );
  }

  addProcess(process: Omit<KeptProcess, "seq">): KeptProcess {
    const { seq } = this.#sql
      .exec<{ seq: number }>(
        "INSERT INTO cf_processes (process_id, record) VALUES (?, ?) RETURNING seq",
        process.processId,
        JSON.stringify(process),
      )
      .one();
    return { ...process, seq };
  }

  saveProcess({ seq, ...process }: KeptProcess): void {
    this.#sql.exec("UPDATE cf_processes SET record = ? WHERE seq = ?", JSON.stringify(process), seq);
  }

  removeProcess(seq: number): void {
    this.#delete("seq = ?", seq);
    this.#sql.exec("DELETE FROM cf_processes WHERE seq = ?", seq);
  }

  processes(): KeptProcess[] {
    return this.#sql
      .exec<{ seq: number; record: string }>("SELECT seq, record FROM cf_processes ORDER BY seq")
      .toArray()
      .map(({ seq, record }) => Object.assign(JSON.parse(record) as Omit<KeptProcess, "seq">, { seq }));
  }

  /** Where the output that is kept begins and ends. */
  extent(seq: number, stream: OutputStream): { oldest: number; length: number } {
    const { oldest = 0 } =
      this.#sql
        .exec<{ oldest: number }>(`SELECT ${stream}_oldest AS oldest FROM cf_processes WHERE seq = ?`, seq)
        .next().value ?? {};
    const last = this.#sql
      .exec<{ end: number }>(
        "SELECT start + length(bytes) AS end FROM cf_output WHERE seq = ? AND stream = ? ORDER BY start DESC LIMIT 1",
        seq,
        STREAM_NUMBER[stream],
      )
      .next().value;
    return { oldest, length: Math.max(oldest, last?.end ?? 0) };
  }

  appendOutput(seq: number, stream: OutputStream, start: number, bytes: Uint8Array): void {
    this.#sql.exec("INSERT INTO cf_output VALUES (?, ?, ?, ?)", seq, STREAM_NUMBER[stream], start, bytes);
    this.#outputBytes += bytes.length;
  }

  /** Adds to the piece that begins at `start`. */
  extendOutput(seq: number, stream: OutputStream, start: number, bytes: Uint8Array): void {
    this.#sql.exec(
      "UPDATE cf_output SET bytes = CAST(bytes || ? AS BLOB) WHERE seq = ? AND stream = ? AND start = ?",
      bytes,
      seq,
      STREAM_NUMBER[stream],
      start,
    );
    this.#outputBytes += bytes.length;
  }

  /** The piece that holds the byte at the offset. */
  output(seq: number, stream: OutputStream, offset: number): { start: number; bytes: Uint8Array } | undefined {
    const row = this.#sql
      .exec<{ start: number; bytes: ArrayBuffer }>(
        "SELECT start, bytes FROM cf_output WHERE seq = ? AND stream = ? AND start <= ? ORDER BY start DESC LIMIT 1",
        seq,
        STREAM_NUMBER[stream],
        offset,
      )
      .next().value;
    return row && { start: row.start, bytes: new Uint8Array(row.bytes) };
  }

  /** Lets go of what lies before `oldest`, but for what begins before `head`. */
  dropOutput(seq: number, stream: OutputStream, oldest: number, head: number): void {
    const which = "seq = ? AND stream = ? AND start >= ? AND start + length(bytes) <= ?";
    this.#delete(which, seq, STREAM_NUMBER[stream], head, oldest);
    this.#sql.exec(`UPDATE cf_processes SET ${stream}_oldest = ? WHERE seq = ?`, oldest, seq);
  }

  #delete(where: string, ...bindings: number[]): void {
    const { bytes } = this.#sql
      .exec<{ bytes: number }>(
        `SELECT coalesce(sum(length(bytes)), 0) AS bytes FROM cf_output WHERE ${where}`,
        ...bindings,
      )
      .one();
    this.#outputBytes -= bytes;
    this.#sql.exec(`DELETE FROM cf_output WHERE ${where}`, ...bindings);
  }
}
