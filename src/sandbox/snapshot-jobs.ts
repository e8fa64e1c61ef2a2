import { hasTables } from "./schema.ts";

/** A snapshot that is being made. */
export interface SnapshotJob {
  imageId: string;
  name?: string | undefined;
  /** Seconds until it is deleted; null for never. */
  ttl: number | null;
  /** Milliseconds since 1970. */
  begunAt: number;
  /** Of an ended sandbox, before its container goes. */
  isAtEnd: boolean;
  /** Whether the catalog has it. */
  isAdded: boolean;
}

/** The snapshots whose outcome the catalog does not know yet: in the object's SQLite, until it does. */
export class SnapshotJobs {
  readonly #sql: SqlStorage;
  readonly #jobs = new Map<string, SnapshotJob>();

  constructor(storage: DurableObjectStorage) {
    this.#sql = storage.sql;
    if (!hasTables(this.#sql)) return;
    for (const { job } of this.#sql.exec<{ job: string }>("SELECT job FROM snapshots")) {
      const one = JSON.parse(job) as SnapshotJob;
      this.#jobs.set(one.imageId, one);
    }
  }

  find(imageId: string): SnapshotJob | undefined {
    return this.#jobs.get(imageId);
  }

  all(): SnapshotJob[] {
    return [...this.#jobs.values()];
  }

  save(job: SnapshotJob): void {
    this.#jobs.set(job.imageId, job);
    this.#sql.exec(
      "INSERT INTO snapshots VALUES (?, ?) ON CONFLICT (image_id) DO UPDATE SET job = excluded.job",
      job.imageId,
      JSON.stringify(job),
    );
  }

  remove(imageId: string): void {
    this.#jobs.delete(imageId);
    this.#sql.exec("DELETE FROM snapshots WHERE image_id = ?", imageId);
  }
}
