import { ApiError } from "../contract/errors.ts";
import {
  MAX_PACKS_A_PART,
  VOLUME_CHUNK_BYTES,
  type ChunkPlace,
  type CommitPart,
  type VolumeEntry,
} from "../contract/volume-sync.ts";
import { requireBelow } from "./below-prefix.ts";
import type { GrantScope } from "./rpc.ts";
import { execRows } from "./rows.ts";

/** Hashes of one row. */
const HASHES_A_ROW = 1000;

/** Columns of a row of `execRows`. */
const columns = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, at) => `value ->> ${first + at}`).join(", ");
const ADD_CHUNKS = `
  INSERT OR IGNORE INTO chunks (hash, pack, offset, length)
  SELECT value ->> 0, packs.id, value ->> 2, value ->> 3 FROM json_each(?1) JOIN packs ON packs.pack_id = value ->> 1`;
const ADD_LOOSE = `
  INSERT OR REPLACE INTO loose SELECT chunks.id, ?2 FROM json_each(?1) JOIN chunks ON chunks.hash = value ->> 0
  WHERE NOT EXISTS (SELECT 1 FROM entry_chunks WHERE entry_chunks.chunk = chunks.id)`;
const COUNT_LIVE = `
  UPDATE packs SET live = (SELECT coalesce(sum(length), 0) FROM chunks WHERE chunks.pack = packs.id)
  WHERE pack_id IN (SELECT value ->> 1 FROM json_each(?1))`;
const ADD_ENTRIES = `
  INSERT OR REPLACE INTO staged SELECT ?2, value ->> 0, ?3, ${columns(1, 7)} FROM json_each(?1)`;
const ADD_CONTENT = `INSERT INTO staged_chunks SELECT ?2, ?3, ${columns(0, 2)} FROM json_each(?1)`;

/** What of a commit has come so far. Called within transactions, but for `requirePlain`. */
export class Staging {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** Keeps a part, in the place of what was kept as that. `packs`: the sizes of those it names that the bucket has. */
  put(commitId: string, number: number, { entries, chunks }: CommitPart, packs: ReadonlyMap<string, number>): void {
    this.#takeBack(commitId, number);
    const now = Date.now();
    this.#sql.exec("INSERT INTO staged_parts VALUES (?, ?, ?)", commitId, number, now);
    this.#addChunks(chunks, packs, now);
    execRows(this.#sql, ADD_ENTRIES, entries.map(rowOf), commitId, number);
    execRows(this.#sql, ADD_CONTENT, contentRows(entries), commitId, number);
  }

  /** Packs of these that are not known to be in the bucket. Throws for one that is about to be deleted there. */
  unknownPacks(packIds: readonly string[]): string[] {
    const json = JSON.stringify(packIds);
    const [going] = this.#sql
      .exec<{ pack_id: string }>(
        "SELECT pack_id FROM garbage WHERE pack_id IN (SELECT value FROM json_each(?)) LIMIT 1",
        json,
      )
      .toArray();
    if (going) throw packMissing(going.pack_id);
    return this.#sql
      .exec<{ pack_id: string }>(
        "SELECT value AS pack_id FROM json_each(?) WHERE value NOT IN (SELECT pack_id FROM packs)",
        json,
      )
      .toArray()
      .map(({ pack_id: packId }) => packId);
  }

  /** Forgets commits of which no part has come since. */
  sweep(before: number): void {
    const old = this.#sql
      .exec<{ commit_id: string }>(
        "SELECT commit_id FROM staged_parts GROUP BY commit_id HAVING max(staged_at) <= ?",
        before,
      )
      .toArray();
    for (const { commit_id: commitId } of old) this.drop(commitId);
  }

  drop(commitId: string): void {
    for (const table of ["staged", "staged_chunks", "staged_parts"])
      this.#sql.exec(`DELETE FROM ${table} WHERE commit_id = ?`, commitId);
  }

  #takeBack(commitId: string, number: number): void {
    const [before] = this.#sql
      .exec("DELETE FROM staged_parts WHERE commit_id = ? AND part = ? RETURNING part", commitId, number)
      .toArray();
    if (!before) return;
    for (const table of ["staged", "staged_chunks"])
      this.#sql.exec(`DELETE FROM ${table} WHERE commit_id = ? AND part = ?`, commitId, number);
  }

  /** One that is known already stays where it is. */
  #addChunks(chunks: ChunkPlace[], packs: ReadonlyMap<string, number>, now: number): void {
    if (chunks.length === 0) return;
    execRows(
      this.#sql,
      "INSERT OR IGNORE INTO packs (pack_id, size, live, created_at) SELECT value ->> 0, value ->> 1, 0, ?2 FROM json_each(?1)",
      packs,
      now,
    );
    this.#requireInPacks(chunks);
    const rows = chunks.map(({ hash, pack, offset, length }) => [hash, pack, offset, length]);
    execRows(this.#sql, ADD_CHUNKS, rows);
    execRows(this.#sql, ADD_LOOSE, rows, now);
    execRows(this.#sql, COUNT_LIVE, rows);
  }

  #requireInPacks(chunks: ChunkPlace[]): void {
    const named = JSON.stringify([...new Set(chunks.map(({ pack }) => pack))]);
    const rows = this.#sql.exec<{ pack_id: string; size: number }>(
      "SELECT pack_id, size FROM packs WHERE pack_id IN (SELECT value FROM json_each(?))",
      named,
    );
    const sizes = new Map(rows.toArray().map(({ pack_id: packId, size }) => [packId, size]));
    for (const { hash, pack, offset, length } of chunks) {
      const size = sizes.get(pack);
      if (size === undefined) throw packMissing(pack);
      if (offset + length <= size) continue;
      throw refused(`The chunk ${hash} would lie behind the end of the pack ${pack}, which is of ${size} bytes.`);
    }
  }
}

/** Throws for a part that makes no sense, whatever the volume holds, or that the grant is not for. */
export function requirePlain({ prefix }: GrantScope, { entries, chunks }: CommitPart): void {
  const seen = new Set<string>();
  for (const entry of entries) {
    const { path } = entry;
    requireBelow({ prefix }, path);
    if (seen.has(path)) throw refused(`The part names \`${path}\` twice.`);
    seen.add(path);
    if (entry.type === "file" && entry.chunks.length !== Math.ceil(entry.size / VOLUME_CHUNK_BYTES))
      throw refused(`\`${path}\` of ${entry.size} bytes cannot be of ${entry.chunks.length} chunks.`);
  }
  if (new Set(chunks.map(({ pack }) => pack)).size > MAX_PACKS_A_PART)
    throw refused(`The part names more than ${MAX_PACKS_A_PART} packs.`);
}

export const packMissing = (packId: string) =>
  new ApiError("conflict", {
    detail: `The pack ${packId} is not there: what lies in it is to be put again, as another pack.`,
  });

const refused = (detail: string) => new ApiError("invalid_request", { detail });

function rowOf(entry: VolumeEntry): unknown[] {
  if (entry.type === "removed") return [entry.path, entry.type, 0, null, null, null, null, null];
  const { path, type, mode, uid, gid, mtime } = entry;
  const size = entry.type === "file" ? entry.size : 0;
  return [path, type, size, mode, uid, gid, mtime, entry.type === "symlink" ? entry.target : null];
}

function* contentRows(entries: VolumeEntry[]): Generator<unknown[]> {
  for (const entry of entries) {
    if (entry.type !== "file") continue;
    for (let at = 0; at < entry.chunks.length; at += HASHES_A_ROW)
      yield [entry.path, at, JSON.stringify(entry.chunks.slice(at, at + HASHES_A_ROW))];
  }
}
