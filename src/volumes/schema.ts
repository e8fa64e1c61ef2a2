/**
 * The tables of a volume. Times are milliseconds since 1970, sizes are bytes.
 *
 * - `entries`: by path; one that is `removed` stands for what was there, for as long as that is told. `entry_chunks`: the content
 *   of files, in order.
 * - `chunks`: where their bytes lie; `loose` holds those that maybe no entry refers to (any more), and since when: a chunk that is
 *   not in it is referred to.
 * - `packs`: those in the bucket that chunks lie in; `garbage`: those that are to be deleted there.
 * - `staged…`: parts of commits that have not been made yet; `commits`: those that have. `parents` is empty but within a commit.
 */
const TABLES = `
  CREATE TABLE IF NOT EXISTS volume (
    id INTEGER PRIMARY KEY CHECK (id = 1), environment TEXT NOT NULL, volume_id TEXT NOT NULL, created_at INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 0, committed_at INTEGER, files INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0,
    told_since INTEGER NOT NULL DEFAULT 0, active_at INTEGER NOT NULL, orphans_after TEXT, confirm_at INTEGER,
    destroyed_at INTEGER
  ) STRICT;

  CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, type TEXT NOT NULL, size INTEGER NOT NULL,
    mode INTEGER, uid INTEGER, gid INTEGER, mtime TEXT, target TEXT
  ) STRICT;
  CREATE INDEX IF NOT EXISTS entries_by_version ON entries (version, path);
  CREATE TABLE IF NOT EXISTS entry_chunks (
    entry INTEGER NOT NULL, position INTEGER NOT NULL, chunk INTEGER NOT NULL, PRIMARY KEY (entry, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS entries_of_chunk ON entry_chunks (chunk);

  CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, pack INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS chunks_of_pack ON chunks (pack);
  CREATE TABLE IF NOT EXISTS loose (chunk INTEGER PRIMARY KEY, touched_at INTEGER NOT NULL) STRICT;
  CREATE TRIGGER IF NOT EXISTS chunk_replaced AFTER UPDATE OF chunk ON entry_chunks BEGIN
    INSERT INTO loose VALUES (OLD.chunk, (SELECT active_at FROM volume)) ON CONFLICT DO UPDATE SET touched_at = excluded.touched_at;
  END;
  CREATE TRIGGER IF NOT EXISTS chunk_dropped AFTER DELETE ON entry_chunks BEGIN
    INSERT INTO loose VALUES (OLD.chunk, (SELECT active_at FROM volume)) ON CONFLICT DO UPDATE SET touched_at = excluded.touched_at;
  END;

  CREATE TABLE IF NOT EXISTS packs (
    id INTEGER PRIMARY KEY, pack_id TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, live INTEGER NOT NULL, created_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS garbage (pack_id TEXT PRIMARY KEY, due_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE IF NOT EXISTS staged_parts (
    commit_id TEXT NOT NULL, part INTEGER NOT NULL, staged_at INTEGER NOT NULL, PRIMARY KEY (commit_id, part)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS staged (
    commit_id TEXT NOT NULL, path TEXT NOT NULL, part INTEGER NOT NULL, type TEXT NOT NULL, size INTEGER NOT NULL,
    mode INTEGER, uid INTEGER, gid INTEGER, mtime TEXT, target TEXT, PRIMARY KEY (commit_id, path)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS staged_chunks (
    commit_id TEXT NOT NULL, part INTEGER NOT NULL, path TEXT NOT NULL, position INTEGER NOT NULL, hashes TEXT NOT NULL,
    PRIMARY KEY (commit_id, part, path, position)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS parents (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS commits (
    commit_id TEXT PRIMARY KEY, version INTEGER NOT NULL, committed_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS commits_by_time ON commits (committed_at);
`;

/** Whether a volume was ever made here. Asking for one that was not leaves nothing behind. */
export function hasTables(sql: SqlStorage): boolean {
  return sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'volume'").toArray().length > 0;
}

/** Makes those that are not there. */
export function createTables(sql: SqlStorage): void {
  sql.exec(TABLES);
}
