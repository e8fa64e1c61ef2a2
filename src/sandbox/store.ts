import type { HostPlacement, Placement } from "../backends/backend.ts";
import { MAIN_PROCESS_ID, newId } from "../contract/ids.ts";
import type { BackendName, SandboxCreate, SandboxState } from "../contract/sandbox.ts";
import type { End } from "./machine.ts";
import type { ProcessRecord } from "./process-record.ts";
import type { CreateInput, ImagePlace } from "./rpc.ts";
import { createTables, hasTables } from "./schema.ts";

/** All that is known of one sandbox. Times are milliseconds since 1970. */
export interface SandboxRecord {
  sandboxId: string;
  environment: string;
  create: SandboxCreate;
  backend: BackendName;
  /** The image as resolved: what the answer names. */
  image: string;
  /** Where `image` is, when it is one of the deployment's own. */
  place?: ImagePlace | undefined;
  /** The id under which the filesystem is kept at the end, where that was asked for. */
  endImageId?: string | undefined;
  state: SandboxState;
  /** Counts starts; what comes back from an older one is dropped. */
  generation: number;
  /** Counts changes; the catalog keeps the highest. */
  version: number;
  /** The version the catalog has. */
  indexedVersion: number;
  placement: Placement | undefined;
  publishedPorts: Record<string, number>;
  createdAt: number;
  startedAt: number | undefined;
  readyAt: number | undefined;
  finishedAt: number | undefined;
  end: End | undefined;
  /** Counts what its host was told of its deadline: of two that overtake each other the later one counts. */
  deadlineRevision: number;
  /** The same of the rules of its network; each change of them counts, too. */
  networkRevision: number;
  /** When its host was asked in vain for the first time, where it was not reached since. */
  unreachedSince?: number | undefined;
  /** True once nothing of an ended sandbox is left on its host. */
  isCleanedUp: boolean;
}

/** The record of a sandbox that was just asked for. */
export function newRecord(input: CreateInput, now: number): SandboxRecord {
  return {
    sandboxId: input.sandboxId,
    environment: input.environment,
    create: input.create,
    backend: input.backend,
    image: input.create.image ?? "",
    place: input.place,
    ...(input.create.snapshot_on_end && { endImageId: newId("image") }),
    state: "created",
    generation: 0,
    version: 1,
    indexedVersion: 0,
    placement: undefined,
    publishedPorts: {},
    createdAt: now,
    startedAt: undefined,
    readyAt: undefined,
    finishedAt: undefined,
    end: undefined,
    deadlineRevision: 0,
    networkRevision: 0,
    isCleanedUp: false,
  };
}

type OldRecord = Partial<SandboxRecord> & { imageHostId?: string; imageSnapshotId?: string };

/** The record that was written; one from before there was all that is in it now is completed. */
function readRecord(text: string): SandboxRecord {
  const record = JSON.parse(text) as SandboxRecord;
  const { placement, deadlineRevision = 0, networkRevision = 0, imageHostId, imageSnapshotId } = record as OldRecord;
  const old = { ...(imageHostId && { hostId: imageHostId }), ...(imageSnapshotId && { snapshotId: imageSnapshotId }) };
  const place = record.place ?? (Object.keys(old).length > 0 ? old : undefined);
  const whole = { ...record, place, deadlineRevision, networkRevision };
  if (!placement || placement.kind !== undefined) return whole;
  return { ...whole, placement: { ...(placement as HostPlacement), kind: "host" } };
}

/** Ended processes kept for reading; the oldest go first. */
const MAX_ENDED_PROCESSES = 1000;
/** They are counted once in so many new ones. */
const PRUNE_EVERY = 100;

/** The object's SQLite: the one place that reads and writes it (timers have their own table). */
export class SandboxStore {
  readonly #sql: SqlStorage;
  #record: SandboxRecord | undefined;

  constructor(storage: DurableObjectStorage) {
    this.#sql = storage.sql;
    if (!hasTables(this.#sql)) return;
    createTables(this.#sql);
    const row = this.#sql.exec<{ record: string }>("SELECT record FROM sandbox").next().value;
    if (row) this.#record = readRecord(row.record);
  }

  get record(): Readonly<SandboxRecord> | undefined {
    return this.#record;
  }

  /** Begins: the first record of the sandbox. */
  begin(record: SandboxRecord): void {
    createTables(this.#sql);
    this.save(record);
  }

  /** Forgets all of it; the storage itself is deleted by whoever calls. */
  drop(): void {
    this.#record = undefined;
  }

  /** Takes back a `drop`: what is stored still stands. */
  restore(record: SandboxRecord): void {
    this.#record ??= record;
  }

  /** Writes the whole record. */
  save(record: SandboxRecord): void {
    this.#record = record;
    this.#sql.exec(
      "INSERT INTO sandbox VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
      JSON.stringify(record),
    );
  }

  /** A process that is about to start. */
  addProcess(process: ProcessRecord): void {
    const { seq } = this.#sql
      .exec<{ seq: number }>(
        "INSERT INTO processes (process_id, record, running) VALUES (?, ?, 1) RETURNING seq",
        process.processId,
        JSON.stringify(process),
      )
      .one();
    if (seq % PRUNE_EVERY === 0) this.#pruneProcesses();
  }

  updateProcess(process: ProcessRecord): void {
    this.#sql.exec(
      "UPDATE processes SET record = ?, running = ? WHERE process_id = ?",
      JSON.stringify(process),
      process.last.returncode === null ? 1 : 0,
      process.processId,
    );
  }

  removeProcess(processId: string): void {
    this.#sql.exec("DELETE FROM processes WHERE process_id = ?", processId);
  }

  process(processId: string): ProcessRecord | undefined {
    return this.#processes("process_id = ?", processId)[0]?.process;
  }

  runningProcesses(): ProcessRecord[] {
    return this.#processes("running = 1 ORDER BY seq").map(({ process }) => process);
  }

  /** Processes, the oldest first, from behind the one of this number. */
  processesAfter(seq: number, limit: number): { seq: number; process: ProcessRecord }[] {
    return this.#processes("seq > ? ORDER BY seq LIMIT ?", seq, limit);
  }

  #processes(where: string, ...bindings: (string | number)[]): { seq: number; process: ProcessRecord }[] {
    return this.#sql
      .exec<{ seq: number; record: string }>(`SELECT seq, record FROM processes WHERE ${where}`, ...bindings)
      .toArray()
      .map(({ seq, record }) => ({ seq, process: JSON.parse(record) as ProcessRecord }));
  }

  /** Keeps of an ended sandbox no more processes than fit in so many bytes: the entrypoint, and the newest. */
  shrink(maxBytes: number): void {
    this.#sql.exec(
      `DELETE FROM processes WHERE process_id <> ? AND seq IN (
         SELECT seq FROM (SELECT seq, sum(length(record)) OVER (ORDER BY seq DESC) AS total FROM processes)
         WHERE total > ?)`,
      MAIN_PROCESS_ID,
      maxBytes,
    );
  }

  /** Forgets the oldest ended processes beyond the bound. */
  #pruneProcesses(): void {
    this.#sql.exec(
      `DELETE FROM processes WHERE running = 0 AND seq <=
         (SELECT seq FROM processes WHERE running = 0 ORDER BY seq DESC LIMIT 1 OFFSET ?)`,
      MAX_ENDED_PROCESSES,
    );
  }
}
