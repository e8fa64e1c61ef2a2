import { ApiError } from "../contract/errors.ts";
import type { VolumeContents } from "./rpc.ts";
import { createTables, hasTables } from "./schema.ts";

export type VolumeRow = {
  environment: string;
  volume_id: string;
  created_at: number;
  version: number;
  committed_at: number | null;
  /** Of all that is there. */
  files: number;
  size: number;
  /** Removed entries of versions above are told. */
  told_since: number;
  /** When somebody last asked for anything that leaves something to be swept. */
  active_at: number;
  /** Where the search for packs that nothing refers to goes on. */
  orphans_after: string | null;
  /** When it is to be looked up whether the catalog has the volume. */
  confirm_at: number | null;
  destroyed_at: number | null;
};

/** What the volume is, besides what is in it. */
export class VolumeRecord {
  readonly #sql: SqlStorage;
  #hasTables: boolean;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    this.#hasTables = hasTables(sql);
    // Those that a later release adds.
    if (this.#hasTables) createTables(sql);
  }

  create(environment: string, volumeId: string): void {
    createTables(this.#sql);
    this.#hasTables = true;
    const now = Date.now();
    this.#sql.exec(
      "INSERT OR IGNORE INTO volume (id, environment, volume_id, created_at, active_at) VALUES (1, ?, ?, ?, ?)",
      environment,
      volumeId,
      now,
      now,
    );
    this.require(environment);
  }

  /** The volume, also while it is being deleted; undefined where there was never one. */
  find(): VolumeRow | undefined {
    return this.#hasTables ? this.#sql.exec<VolumeRow>("SELECT * FROM volume").toArray()[0] : undefined;
  }

  /** Throws `volume_not_found` where there is none for this environment. */
  require(environment: string): VolumeRow {
    const row = this.find();
    if (row?.environment === environment && row.destroyed_at === null) return row;
    throw new ApiError("volume_not_found");
  }

  contents(environment: string): VolumeContents {
    const { version, committed_at: committedAt, files, size } = this.require(environment);
    const { stored } = this.#sql.exec<{ stored: number }>("SELECT total(size) AS stored FROM packs").one();
    return {
      version,
      ...(committedAt !== null && { committed_at: new Date(committedAt).toISOString() }),
      files,
      size,
      stored_size: stored,
    };
  }

  set(changes: Partial<VolumeRow>): void {
    const names = Object.keys(changes);
    this.#sql.exec(`UPDATE volume SET ${names.map((name) => `${name} = ?`).join(", ")}`, ...Object.values(changes));
  }

  /** Nothing is left of it, and the object is as if it had never been asked. */
  forget(): void {
    this.#hasTables = false;
  }
}
