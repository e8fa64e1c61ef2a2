import { MAX_PACK_BYTES } from "../contract/volume-sync.ts";
import type { Garbage } from "./garbage.ts";
import { countLive } from "./loose.ts";
import type { PackStore } from "./pack-store.ts";

/** A pack is rewritten when less of it than one part in so many is live, and more than so many bytes are not. */
const LIVE_PART = 4;
const MIN_DEAD_BYTES = 1024 * 1024;
/** Packs that one step reads, each of them whole. */
const PACKS_AT_ONCE = 32;

type OldPack = { id: number; pack_id: string; live: number };
type OldChunk = { id: number; pack: number; offset: number; length: number };

/** Puts what is live of mostly dead packs together into new ones. */
export class Compaction {
  readonly #sql: SqlStorage;
  readonly #store: PackStore;
  readonly #garbage: Garbage;
  readonly #transaction: <T>(run: () => T) => T;

  constructor(sql: SqlStorage, store: PackStore, garbage: Garbage, transaction: <T>(run: () => T) => T) {
    this.#sql = sql;
    this.#store = store;
    this.#garbage = garbage;
    this.#transaction = transaction;
  }

  /**
   * Makes one pack of the next few that were put before; false where there were none. The old ones stay for `keptMs`: somebody
   * may have been told that a chunk lies there.
   */
  async step(before: number, keptMs: number): Promise<boolean> {
    const old = this.#next(before);
    if (old.length === 0) return false;
    const moved: OldChunk[] = [];
    const bytes = new Uint8Array(old.reduce((sum, { live }) => sum + live, 0));
    let end = 0;
    for (const { id, pack_id: packId } of old) {
      const pack = await this.#store.get(packId);
      if (!pack) throw new Error(`The pack ${packId} of a volume is not in the bucket.`);
      const content = new Uint8Array(await pack.arrayBuffer());
      for (const chunk of this.#chunksOf(id)) {
        // One that came meanwhile waits for the next time.
        if (end + chunk.length > bytes.length) continue;
        bytes.set(content.subarray(chunk.offset, chunk.offset + chunk.length), end);
        moved.push({ ...chunk, offset: end });
        end += chunk.length;
      }
    }
    const packId = crypto.randomUUID().replaceAll("-", "");
    await this.#store.put(packId, bytes.subarray(0, end), end);
    this.#transaction(() => this.#replace(packId, end, moved, old, keptMs));
    return true;
  }

  #next(before: number): OldPack[] {
    const all = this.#sql
      .exec<OldPack>(
        `SELECT id, pack_id, live FROM packs
         WHERE live > 0 AND live * ${LIVE_PART} < size AND size - live > ${MIN_DEAD_BYTES} AND created_at <= ? LIMIT ?`,
        before,
        PACKS_AT_ONCE,
      )
      .toArray();
    let size = 0;
    return all.filter(({ live }) => (size += live) <= MAX_PACK_BYTES);
  }

  #chunksOf(pack: number): OldChunk[] {
    const query = "SELECT id, pack, offset, length FROM chunks WHERE pack = ? ORDER BY offset";
    return this.#sql.exec<OldChunk>(query, pack).toArray();
  }

  #replace(packId: string, size: number, moved: OldChunk[], old: OldPack[], keptMs: number): void {
    const now = Date.now();
    const { id } = this.#sql
      .exec<{ id: number }>(
        "INSERT INTO packs (pack_id, size, live, created_at) VALUES (?, ?, 0, ?) RETURNING id",
        packId,
        size,
        now,
      )
      .one();
    const move = "UPDATE chunks SET pack = ?, offset = ? WHERE id = ? AND pack = ?";
    for (const chunk of moved) this.#sql.exec(move, id, chunk.offset, chunk.id, chunk.pack);
    const packs = [id, ...old.map((pack) => pack.id)];
    countLive(this.#sql, packs);
    const emptied = `DELETE FROM packs WHERE id IN (SELECT value FROM json_each(?)) AND id <> ?
      AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.id) RETURNING pack_id`;
    for (const { pack_id: gone } of this.#sql.exec<{ pack_id: string }>(emptied, JSON.stringify(packs), id).toArray())
      this.#garbage.add(gone, now + keptMs);
  }
}
