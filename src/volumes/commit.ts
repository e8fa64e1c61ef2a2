import { ApiError } from "../contract/errors.ts";
import { VOLUME_CHUNK_BYTES } from "../contract/volume-sync.ts";
import type { VolumeRecord } from "./record.ts";
import { isBelow, parentOf } from "./rows.ts";
import type { Staging } from "./staging.ts";

/** What a directory is like that a commit makes for something to lie in. */
const MADE_DIRECTORY_MODE = 0o755;
const CHUNKS_OF_FILE = `(staged.size + ${VOLUME_CHUNK_BYTES - 1}) / ${VOLUME_CHUNK_BYTES}`;

/** All directories above what is to be there. */
const PARENTS = `
  INSERT INTO parents
  WITH RECURSIVE above (path) AS (
    SELECT ${parentOf("path")} FROM staged WHERE commit_id = ?1 AND type <> 'removed' AND instr(path, '/') > 0
    UNION SELECT ${parentOf("path")} FROM above WHERE instr(path, '/') > 0
  ) SELECT path FROM above`;
const CONTRADICTION = `
  SELECT path FROM parents JOIN staged USING (path) WHERE commit_id = ?1 AND type IN ('file', 'symlink') LIMIT 1`;
const MAKE_PARENTS = `
  INSERT INTO staged SELECT ?1, parents.path, 0, 'directory', 0, ${MADE_DIRECTORY_MODE}, 0, 0, ?2, NULL
  FROM parents LEFT JOIN entries ON entries.path = parents.path WHERE entries.type IS NULL OR entries.type <> 'directory'
  ON CONFLICT DO UPDATE SET type = excluded.type, mode = excluded.mode, uid = excluded.uid, gid = excluded.gid, mtime = excluded.mtime
  WHERE staged.type = 'removed'`;
/** What lies below a path that is no directory any more. */
const REMOVE_COVERED = `
  INSERT OR IGNORE INTO staged (commit_id, path, part, type, size)
  SELECT ?1, below.path, 0, 'removed', 0 FROM staged AS made
  JOIN entries AS was ON was.path = made.path AND was.type = 'directory'
  JOIN entries AS below ON ${isBelow("below.path", "made.path")} AND below.type <> 'removed'
  WHERE made.commit_id = ?1 AND made.type IN ('file', 'symlink')`;
const FORGET_WHAT_IS_GONE = `
  DELETE FROM staged WHERE commit_id = ?1 AND type = 'removed'
  AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.path = staged.path AND entries.type <> 'removed')`;
/** A directory that something still lies in stays what it is. */
const KEEP_FULL_DIRECTORIES = `
  UPDATE staged SET type = 'directory', mode = was.mode, uid = was.uid, gid = was.gid, mtime = was.mtime
  FROM entries AS was WHERE staged.commit_id = ?1 AND staged.type = 'removed' AND was.path = staged.path AND was.type = 'directory'
  AND (
    EXISTS (SELECT 1 FROM parents WHERE parents.path = staged.path)
    OR EXISTS (
      SELECT 1 FROM entries AS below
      LEFT JOIN staged AS gone ON gone.commit_id = ?1 AND gone.path = below.path AND gone.type = 'removed'
      WHERE ${isBelow("below.path", "staged.path")} AND below.type <> 'removed' AND gone.path IS NULL
    )
  )`;

const TOTALS_BEFORE = `
  SELECT count(*) AS files, coalesce(sum(entries.size), 0) AS size FROM staged JOIN entries USING (path)
  WHERE commit_id = ?1 AND entries.type = 'file'`;
const TOTALS_AFTER = `
  SELECT count(*) AS files, coalesce(sum(size), 0) AS size FROM staged WHERE commit_id = ?1 AND type = 'file'`;

const PUT_ENTRIES = `
  INSERT INTO entries (path, version, type, size, mode, uid, gid, mtime, target)
  SELECT path, ?2, type, size, mode, uid, gid, mtime, target FROM staged WHERE commit_id = ?1
  ON CONFLICT (path) DO UPDATE SET version = excluded.version, type = excluded.type, size = excluded.size, mode = excluded.mode,
  uid = excluded.uid, gid = excluded.gid, mtime = excluded.mtime, target = excluded.target`;
/** What stays as it was is not written. */
const PUT_CONTENT = `
  INSERT INTO entry_chunks
  SELECT entries.id, staged_chunks.position + named.key, chunks.id
  FROM staged JOIN entries ON entries.path = staged.path
  JOIN staged_chunks ON staged_chunks.commit_id = ?1 AND staged_chunks.part = staged.part AND staged_chunks.path = staged.path
  JOIN json_each(staged_chunks.hashes) AS named JOIN chunks ON chunks.hash = named.value
  WHERE staged.commit_id = ?1 AND staged.type = 'file'
  ON CONFLICT DO UPDATE SET chunk = excluded.chunk WHERE chunk <> excluded.chunk`;
const DROP_CONTENT = `
  DELETE FROM entry_chunks WHERE (entry, position) IN (
    SELECT entry, position FROM staged JOIN entries ON entries.path = staged.path JOIN entry_chunks ON entry_chunks.entry = entries.id
    WHERE staged.commit_id = ?1 AND position >= ${CHUNKS_OF_FILE}
  )`;

const UNKNOWN_CHUNK = `
  SELECT staged.path, named.value AS hash FROM staged
  JOIN staged_chunks ON staged_chunks.commit_id = ?1 AND staged_chunks.part = staged.part AND staged_chunks.path = staged.path
  JOIN json_each(staged_chunks.hashes) AS named LEFT JOIN chunks ON chunks.hash = named.value
  WHERE staged.commit_id = ?1 AND staged.type = 'file' AND chunks.id IS NULL LIMIT 1`;
const WRONG_SIZE = `
  SELECT staged.path FROM staged JOIN entries ON entries.path = staged.path
  LEFT JOIN entry_chunks ON entry_chunks.entry = entries.id LEFT JOIN chunks ON chunks.id = entry_chunks.chunk
  WHERE staged.commit_id = ?1 AND staged.type = 'file' GROUP BY staged.path
  HAVING coalesce(sum(chunks.length), 0) <> staged.size
  OR total(entry_chunks.position < ${CHUNKS_OF_FILE} - 1 AND chunks.length <> ${VOLUME_CHUNK_BYTES}) > 0 LIMIT 1`;

/** Makes versions of what is staged: to be called within a transaction, which an error takes back. */
export class Commits {
  readonly #sql: SqlStorage;
  readonly #record: VolumeRecord;
  readonly #staging: Staging;

  constructor(sql: SqlStorage, record: VolumeRecord, staging: Staging) {
    this.#sql = sql;
    this.#record = record;
    this.#staging = staging;
  }

  /** Answers the version that the commit has made, or had made before. */
  make(commitId: string, parts: number, version: number): number {
    const [done] = this.#sql
      .exec<{ version: number }>("SELECT version FROM commits WHERE commit_id = ?", commitId)
      .toArray();
    if (done) return done.version;
    this.#requireParts(commitId, parts);
    this.#settle(commitId);
    const [change] = this.#sql.exec("SELECT 1 FROM staged WHERE commit_id = ? LIMIT 1", commitId).toArray();
    const made = change ? this.#apply(commitId, version + 1) : version;
    this.#sql.exec("INSERT INTO commits VALUES (?, ?, ?)", commitId, made, Date.now());
    this.#staging.drop(commitId);
    return made;
  }

  #requireParts(commitId: string, parts: number): void {
    const { n: staged } = this.#sql
      .exec<{ n: number }>("SELECT count(*) AS n FROM staged_parts WHERE commit_id = ? AND part < ?", commitId, parts)
      .one();
    if (staged !== parts)
      throw new ApiError("conflict", {
        detail: `Of the ${parts} parts of the commit, ${staged} are there: put them all.`,
      });
    // Left from before it was cut into fewer.
    const more = "FROM staged_parts WHERE commit_id = ? AND part >= ?";
    if (this.#sql.exec(`SELECT 1 ${more} LIMIT 1`, commitId, parts).toArray().length > 0)
      this.#sql.exec("DELETE FROM staged WHERE commit_id = ? AND part >= ?", commitId, parts);
  }

  /** What is staged becomes all that changes, and nothing but that. */
  #settle(commitId: string): void {
    this.#sql.exec(PARENTS, commitId);
    const [both] = this.#sql.exec<{ path: string }>(CONTRADICTION, commitId).toArray();
    if (both) {
      const detail = `\`${both.path}\` cannot be a file or a link and have something below it in the same commit.`;
      throw new ApiError("invalid_request", { detail });
    }
    this.#sql.exec(MAKE_PARENTS, commitId, `${Date.now()}000000`);
    this.#sql.exec(REMOVE_COVERED, commitId);
    this.#sql.exec(FORGET_WHAT_IS_GONE, commitId);
    this.#sql.exec(KEEP_FULL_DIRECTORIES, commitId);
    this.#sql.exec("DELETE FROM parents");
  }

  #apply(commitId: string, version: number): number {
    const now = Date.now();
    const before = this.#totals(TOTALS_BEFORE, commitId);
    const after = this.#totals(TOTALS_AFTER, commitId);
    const { files, size } = this.#record.find()!;
    this.#record.set({
      version,
      committed_at: now,
      active_at: now,
      files: files - before.files + after.files,
      size: size - before.size + after.size,
    });
    this.#sql.exec(PUT_ENTRIES, commitId, version);
    this.#sql.exec(DROP_CONTENT, commitId);
    this.#sql.exec(PUT_CONTENT, commitId);
    this.#requireWhole(commitId);
    return version;
  }

  #totals(query: string, commitId: string): { files: number; size: number } {
    return this.#sql.exec<{ files: number; size: number }>(query, commitId).one();
  }

  #requireWhole(commitId: string): void {
    const [unknown] = this.#sql.exec<{ path: string; hash: string }>(UNKNOWN_CHUNK, commitId).toArray();
    if (unknown) {
      const detail = `The chunk ${unknown.hash} of \`${unknown.path}\` is in no pack: put it, and name its place in a part.`;
      throw new ApiError("conflict", { detail });
    }
    const [wrong] = this.#sql.exec<{ path: string }>(WRONG_SIZE, commitId).toArray();
    if (wrong)
      throw new ApiError("invalid_request", { detail: `The chunks of \`${wrong.path}\` are not of its size.` });
  }
}
