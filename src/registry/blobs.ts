import { RegistryError } from "./errors.ts";
import type { Garbage } from "./garbage.ts";
import type { Grace } from "./grace.ts";
import type { StoredBlob } from "./rpc.ts";

/** Blobs of one step of a sweep: a transaction is short. */
const SWEPT_AT_ONCE = 500;
const IS_UNREFERENCED = "NOT EXISTS (SELECT 1 FROM manifest_blobs WHERE manifest_blobs.blob = blobs.digest)";

type BlobRow = { key: string; size: number; touched_at: number };

/**
 * The blobs of the environment, one for each digest. A row is there exactly as long as its bytes are in the bucket: it comes after
 * them and goes before them.
 */
export class Blobs {
  readonly #sql: SqlStorage;
  readonly #garbage: Garbage;
  readonly #grace: Grace;

  constructor(sql: SqlStorage, garbage: Garbage, grace: Grace) {
    this.#sql = sql;
    this.#garbage = garbage;
    this.#grace = grace;
  }

  /** The blob; whoever is told of it may count on it for a while. */
  find(digest: string): StoredBlob | undefined {
    const row = this.#row(digest);
    if (!row) return undefined;
    const now = Date.now();
    if (row.touched_at + this.#grace.touchedEveryMs <= now) this.#touch(digest, now);
    return { key: row.key, size: row.size };
  }

  /** Its size, for who only checks it. */
  sizeOf(digest: string): number | undefined {
    return this.#row(digest)?.size;
  }

  /** Adds an uploaded blob. One of this digest that is there stays, and the new bytes go. */
  add(digest: string, { key, size }: StoredBlob): void {
    const now = Date.now();
    const there = this.#row(digest);
    if (!there) {
      this.#sql.exec("INSERT INTO blobs VALUES (?, ?, ?, ?)", digest, key, size, now);
      return;
    }
    this.#touch(digest, now);
    if (there.key !== key) this.#garbage.add(key, now);
  }

  delete(digest: string): void {
    const row = this.#row(digest);
    if (!row) throw new RegistryError("BLOB_UNKNOWN");
    const [gone] = this.#deleted("digest = ?", digest);
    if (!gone) throw new RegistryError("IN_USE", { message: "A manifest refers to this blob." });
  }

  /** Deletes the next few that nobody needs; false when there were none left. */
  sweep(now: number): boolean {
    const which = `digest IN (SELECT digest FROM blobs WHERE touched_at <= ? AND ${IS_UNREFERENCED} LIMIT ${SWEPT_AT_ONCE})`;
    return this.#deleted(which, now - this.#grace.keptMs).length > 0;
  }

  /** To be called within a transaction: the row goes and its key stands among the garbage, or neither. */
  #deleted(which: string, ...values: (string | number)[]): string[] {
    const gone = this.#sql
      .exec<{ key: string }>(`DELETE FROM blobs WHERE ${which} AND ${IS_UNREFERENCED} RETURNING key`, ...values)
      .toArray();
    const now = Date.now();
    for (const { key } of gone) this.#garbage.add(key, now);
    return gone.map(({ key }) => key);
  }

  #row(digest: string): BlobRow | undefined {
    return this.#sql.exec<BlobRow>("SELECT key, size, touched_at FROM blobs WHERE digest = ?", digest).toArray()[0];
  }

  #touch(digest: string, now: number): void {
    this.#sql.exec("UPDATE blobs SET touched_at = ? WHERE digest = ?", now, digest);
  }
}
