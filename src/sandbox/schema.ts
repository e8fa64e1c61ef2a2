/** The tables of the object, but for those of a container beside it. Times are milliseconds since 1970. */
const TABLES = `
  CREATE TABLE IF NOT EXISTS sandbox (id INTEGER PRIMARY KEY CHECK (id = 1), record TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS timers (name TEXT PRIMARY KEY, due_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, event TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS processes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, process_id TEXT NOT NULL UNIQUE, record TEXT NOT NULL, running INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS snapshots (image_id TEXT PRIMARY KEY, job TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS processes_that_run ON processes (seq) WHERE running = 1;
`;

/** Whether a sandbox was ever made here. Asking for one that was not leaves nothing behind. */
export function hasTables(sql: SqlStorage): boolean {
  return sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sandbox'").toArray().length > 0;
}

/** Makes those that are not there, also of a sandbox from before there were all of them. */
export function createTables(sql: SqlStorage): void {
  sql.exec(TABLES);
}
