import type { PackStore } from "./pack-store.ts";

/** Packs of one delete: what R2 takes. */
const PACKS_AT_ONCE = 1000;

/**
 * Packs that nothing needs any more. They stand here from the moment that nothing does until R2 has deleted them, so that neither
 * a crash nor a bucket that fails leaves bytes behind; and as long as one does, nothing is said to lie in it.
 */
export class Garbage {
  readonly #sql: SqlStorage;
  readonly #store: PackStore;

  constructor(sql: SqlStorage, store: PackStore) {
    this.#sql = sql;
    this.#store = store;
  }

  /** `dueAt` lies ahead where somebody may still be reading there. */
  add(packId: string, dueAt: number): void {
    this.#sql.exec("INSERT OR IGNORE INTO garbage VALUES (?, ?)", packId, dueAt);
  }

  holdsAny(): boolean {
    return this.#sql.exec("SELECT 1 FROM garbage LIMIT 1").toArray().length > 0;
  }

  /** Deletes what is due. */
  async collect(): Promise<void> {
    for (;;) {
      const packIds = this.#sql
        .exec<{ pack_id: string }>("SELECT pack_id FROM garbage WHERE due_at <= ? LIMIT ?", Date.now(), PACKS_AT_ONCE)
        .toArray()
        .map(({ pack_id: packId }) => packId);
      if (packIds.length === 0) return;
      await this.#store.delete(packIds);
      this.#sql.exec("DELETE FROM garbage WHERE pack_id IN (SELECT value FROM json_each(?))", JSON.stringify(packIds));
    }
  }
}
