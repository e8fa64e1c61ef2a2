import type { ChunkPlace } from "../contract/volume-sync.ts";
import type { Grace } from "../registry/grace.ts";

const MISSING = `
  SELECT DISTINCT named.value AS hash FROM json_each(?) AS named LEFT JOIN chunks ON chunks.hash = named.value
  WHERE chunks.id IS NULL`;
const PLACES = `
  SELECT chunks.hash, packs.pack_id AS pack, chunks.offset, chunks.length
  FROM chunks JOIN packs ON packs.id = chunks.pack WHERE chunks.hash IN (SELECT value FROM json_each(?))`;
const TOUCH = `
  UPDATE loose SET touched_at = ?2 WHERE touched_at <= ?3
  AND chunk IN (SELECT chunks.id FROM json_each(?1) AS named JOIN chunks ON chunks.hash = named.value)`;

/** The chunks that packs hold. Whoever is told of one may count on it for a while. */
export class Chunks {
  readonly #sql: SqlStorage;
  readonly #grace: Grace;

  constructor(sql: SqlStorage, grace: Grace) {
    this.#sql = sql;
    this.#grace = grace;
  }

  missing(hashes: string[]): string[] {
    const json = JSON.stringify(hashes);
    this.#touch(json);
    return this.#sql
      .exec<{ hash: string }>(MISSING, json)
      .toArray()
      .map(({ hash }) => hash);
  }

  locate(hashes: string[]): ChunkPlace[] {
    const json = JSON.stringify(hashes);
    this.#touch(json);
    return this.#sql.exec<ChunkPlace>(PLACES, json).toArray();
  }

  /** One that an entry refers to needs none: it is kept for a while from when the last entry does not any more. */
  #touch(json: string): void {
    const now = Date.now();
    this.#sql.exec(TOUCH, json, now, now - this.#grace.touchedEveryMs);
  }
}
