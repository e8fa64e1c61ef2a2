/** Chunks of one step: a transaction is short. */
const CHUNKS_AT_ONCE = 1000;

/**
 * Deletes the next few chunks that no entry has referred to and nobody was told of since; false when there were none left. To be
 * called within a transaction.
 */
export function sweepLoose(sql: SqlStorage, before: number): boolean {
  const due = sql
    .exec<{ chunk: number }>("SELECT chunk FROM loose WHERE touched_at <= ? LIMIT ?", before, CHUNKS_AT_ONCE)
    .toArray();
  if (due.length === 0) return false;
  const json = JSON.stringify(due.map(({ chunk }) => chunk));
  const packs = sql
    .exec<{ pack: number }>(
      `DELETE FROM chunks WHERE id IN (SELECT value FROM json_each(?))
       AND NOT EXISTS (SELECT 1 FROM entry_chunks WHERE entry_chunks.chunk = chunks.id) RETURNING pack`,
      json,
    )
    .toArray();
  sql.exec("DELETE FROM loose WHERE chunk IN (SELECT value FROM json_each(?))", json);
  countLive(sql, [...new Set(packs.map(({ pack }) => pack))]);
  return true;
}

/** Writes down how many bytes of the packs are those of chunks. */
export function countLive(sql: SqlStorage, packs: number[]): void {
  sql.exec(
    `UPDATE packs SET live = (SELECT coalesce(sum(length), 0) FROM chunks WHERE chunks.pack = packs.id)
     WHERE id IN (SELECT value FROM json_each(?))`,
    JSON.stringify(packs),
  );
}
