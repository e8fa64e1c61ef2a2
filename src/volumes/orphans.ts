import type { Garbage } from "./garbage.ts";
import type { PackStore } from "./pack-store.ts";
import type { VolumeRecord } from "./record.ts";

/** Packs in the bucket that no commit, nor a part of one, has ever named. */
export class Orphans {
  readonly #sql: SqlStorage;
  readonly #store: PackStore;
  readonly #garbage: Garbage;
  readonly #record: VolumeRecord;
  /** Packs that parts name which are being taken in: the bucket is asked for them at this moment. */
  readonly #awaited = new Map<string, number>();

  constructor(sql: SqlStorage, store: PackStore, garbage: Garbage, record: VolumeRecord) {
    this.#sql = sql;
    this.#store = store;
    this.#garbage = garbage;
    this.#record = record;
  }

  /** None of the packs counts as an orphan while this runs. */
  async without<T>(packIds: readonly string[], run: () => Promise<T>): Promise<T> {
    for (const packId of packIds) this.#awaited.set(packId, (this.#awaited.get(packId) ?? 0) + 1);
    try {
      return await run();
    } finally {
      for (const packId of packIds) {
        const left = this.#awaited.get(packId)! - 1;
        if (left > 0) this.#awaited.set(packId, left);
        else this.#awaited.delete(packId);
      }
    }
  }

  /** Makes those garbage that were put before, of the next page of the bucket; false at its end. */
  async step(before: number): Promise<boolean> {
    const { packs, hasMore } = await this.#store.list(this.#record.find()?.orphans_after ?? undefined);
    const old = packs.filter(({ packId, uploadedAt }) => uploadedAt <= before && !this.#awaited.has(packId));
    const orphans = this.#sql.exec<{ pack_id: string }>(
      "SELECT value AS pack_id FROM json_each(?) WHERE value NOT IN (SELECT pack_id FROM packs)",
      JSON.stringify(old.map(({ packId }) => packId)),
    );
    const now = Date.now();
    for (const { pack_id: packId } of orphans.toArray()) this.#garbage.add(packId, now);
    this.#record.set({ orphans_after: hasMore ? packs.at(-1)!.packId : null });
    return hasMore;
  }
}
