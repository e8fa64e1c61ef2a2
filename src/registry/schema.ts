/** The tables of an environment's registry. Times are milliseconds since 1970, sizes are bytes. */
const TABLES = `
  CREATE TABLE IF NOT EXISTS blobs (
    digest TEXT PRIMARY KEY, key TEXT NOT NULL, size INTEGER NOT NULL, touched_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS blobs_by_touch ON blobs (touched_at);

  CREATE TABLE IF NOT EXISTS manifests (
    repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, bytes BLOB NOT NULL,
    layers_size INTEGER NOT NULL, subject TEXT, artifact_type TEXT, annotations TEXT NOT NULL, created_at INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
  ) STRICT;
  CREATE INDEX IF NOT EXISTS manifests_by_subject ON manifests (repository, subject) WHERE subject IS NOT NULL;

  CREATE TABLE IF NOT EXISTS manifest_blobs (
    blob TEXT NOT NULL, repository TEXT NOT NULL, manifest TEXT NOT NULL, PRIMARY KEY (blob, repository, manifest)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS blobs_of_manifest ON manifest_blobs (repository, manifest);

  CREATE TABLE IF NOT EXISTS manifest_children (
    repository TEXT NOT NULL, parent TEXT NOT NULL, position INTEGER NOT NULL, child TEXT NOT NULL, platform TEXT,
    PRIMARY KEY (repository, parent, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS parents_of_manifest ON manifest_children (repository, child);

  CREATE TABLE IF NOT EXISTS tags (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, created_at INTEGER NOT NULL,
    PRIMARY KEY (repository, tag)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS tags_of_manifest ON tags (repository, digest);

  CREATE TABLE IF NOT EXISTS uploads (
    upload_id TEXT PRIMARY KEY, repository TEXT NOT NULL, key TEXT NOT NULL, multipart_id TEXT,
    tail_key TEXT, tail_size INTEGER NOT NULL DEFAULT 0, digest TEXT,
    writer TEXT, claimed_until INTEGER NOT NULL DEFAULT 0, touched_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS upload_parts (
    upload_id TEXT NOT NULL, part INTEGER NOT NULL, etag TEXT NOT NULL, PRIMARY KEY (upload_id, part)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE IF NOT EXISTS registry (id INTEGER PRIMARY KEY CHECK (id = 1), environment TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS garbage (key TEXT PRIMARY KEY, multipart_id TEXT, due_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`;

/** Makes those that are not there. */
export function createTables(sql: SqlStorage): void {
  sql.exec(TABLES);
}

/** The environment, by the object's name; an object that its alarm woke may not know that, and finds it where it was written down. */
export function environmentIn(sql: SqlStorage, name: string | undefined): string {
  const [row] = sql.exec<{ environment: string }>("SELECT environment FROM registry").toArray();
  if (row) return row.environment;
  if (name === undefined) throw new Error("A registry does not know its environment.");
  sql.exec("INSERT INTO registry VALUES (1, ?)", name);
  return name;
}

/** Whether there is anything that a sweep could be about. */
export function holdsAnything(sql: SqlStorage): boolean {
  const tables = ["blobs", "manifests", "uploads", "garbage"];
  return tables.some((table) => sql.exec(`SELECT 1 FROM ${table} LIMIT 1`).toArray().length > 0);
}
