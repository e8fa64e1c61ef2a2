import type { Grace } from "../registry/grace.ts";
import { Changes } from "./changes.ts";
import { Chunks } from "./chunks.ts";
import { Commits } from "./commit.ts";
import { Compaction } from "./compaction.ts";
import { VolumeFiles } from "./files.ts";
import { Garbage } from "./garbage.ts";
import { Orphans } from "./orphans.ts";
import type { PackStore } from "./pack-store.ts";
import type { VolumeRecord } from "./record.ts";
import { Staging } from "./staging.ts";

/** What the object of a volume is made of. */
export class VolumeParts {
  readonly storage: DurableObjectStorage;
  readonly sql: SqlStorage;
  readonly record: VolumeRecord;
  readonly store: PackStore;
  readonly grace: Grace;
  readonly chunks: Chunks;
  readonly staging: Staging;
  readonly commits: Commits;
  readonly changes: Changes;
  readonly files: VolumeFiles;
  readonly garbage: Garbage;
  readonly orphans: Orphans;
  readonly compaction: Compaction;
  /** All that `run` writes, or nothing. */
  readonly transaction: <T>(run: () => T) => T;

  constructor(storage: DurableObjectStorage, record: VolumeRecord, store: PackStore, grace: Grace) {
    const { sql } = storage;
    this.storage = storage;
    this.sql = sql;
    this.record = record;
    this.store = store;
    this.grace = grace;
    this.transaction = (run) => storage.transactionSync(run);
    this.chunks = new Chunks(sql, grace);
    this.staging = new Staging(sql);
    this.commits = new Commits(sql, record, this.staging);
    this.changes = new Changes(sql);
    this.files = new VolumeFiles(sql);
    this.garbage = new Garbage(sql, store);
    this.orphans = new Orphans(sql, store, this.garbage, record);
    this.compaction = new Compaction(sql, store, this.garbage, this.transaction);
  }
}
