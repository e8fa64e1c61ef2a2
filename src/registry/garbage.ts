import type { BlobStore } from "./blob-store.ts";

/** Keys of one delete: what R2 takes. */
const KEYS_AT_ONCE = 1000;

type GarbageRow = { key: string; multipart_id: string | null };

/**
 * Keys of the bucket that nothing needs any more. They stand here from the moment that nothing does until R2 has deleted them,
 * so that neither a crash nor a bucket that fails leaves bytes behind.
 */
export class Garbage {
  readonly #sql: SqlStorage;
  readonly #store: BlobStore;
  #collecting: Promise<void> | undefined;

  constructor(sql: SqlStorage, store: BlobStore) {
    this.#sql = sql;
    this.#store = store;
  }

  /** `dueAt` lies ahead where somebody may still be writing there. `multipartId`: what is begun there and not completed. */
  add(key: string, dueAt: number, multipartId: string | null = null): void {
    this.#sql.exec("INSERT OR REPLACE INTO garbage VALUES (?, ?, ?)", key, multipartId, dueAt);
  }

  /** Deletes what is due. Called while that goes on, it is joined. */
  collect(): Promise<void> {
    this.#collecting ??= this.#collect().finally(() => (this.#collecting = undefined));
    return this.#collecting;
  }

  async #collect(): Promise<void> {
    const failed: unknown[] = [];
    for (const { key, multipart_id: multipartId } of this.#due()) {
      if (multipartId === null) continue;
      try {
        await this.#store.abortMultipart(key, multipartId);
        this.#sql.exec("UPDATE garbage SET multipart_id = NULL WHERE key = ?", key);
      } catch (error) {
        failed.push(error);
      }
    }
    for (;;) {
      const keys = this.#due().flatMap(({ key, multipart_id: multipartId }) => (multipartId === null ? [key] : []));
      if (keys.length === 0) break;
      await this.#store.delete(keys);
      for (const key of keys) this.#sql.exec("DELETE FROM garbage WHERE key = ?", key);
    }
    if (failed.length > 0) throw failed[0];
  }

  /** What is begun and not completed comes last: it must not keep the rest from going. */
  #due(): GarbageRow[] {
    return this.#sql
      .exec<GarbageRow>(
        "SELECT key, multipart_id FROM garbage WHERE due_at <= ? ORDER BY multipart_id IS NOT NULL LIMIT ?",
        Date.now(),
        KEYS_AT_ONCE,
      )
      .toArray();
  }
}
