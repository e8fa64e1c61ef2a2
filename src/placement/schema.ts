/** The tables of the placement. Times are milliseconds since 1970. */
const TABLES = `
  CREATE TABLE IF NOT EXISTS hosts (
    host_id TEXT PRIMARY KEY, doc TEXT NOT NULL, seen_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS removed_hosts (
    host_id TEXT PRIMARY KEY
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS holdings (
    id TEXT PRIMARY KEY, doc TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS pools (
    pool_id TEXT PRIMARY KEY, doc TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS warm (
    warm_id TEXT PRIMARY KEY, doc TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
`;

export function createTables(sql: SqlStorage): void {
  sql.exec(TABLES);
}

const KEYS = { holdings: "id", pools: "pool_id", warm: "warm_id" } as const;

/** Documents by their id, in one of the tables. */
export class Documents<Doc> {
  readonly #sql: SqlStorage;
  readonly #table: keyof typeof KEYS;

  constructor(sql: SqlStorage, table: keyof typeof KEYS) {
    this.#sql = sql;
    this.#table = table;
  }

  all(): Doc[] {
    const rows = this.#sql.exec<{ doc: string }>(`SELECT doc FROM ${this.#table}`).toArray();
    return rows.map(({ doc }) => JSON.parse(doc) as Doc);
  }

  put(id: string, doc: Doc): void {
    const key = KEYS[this.#table];
    this.#sql.exec(
      `INSERT INTO ${this.#table} (${key}, doc) VALUES (?, ?) ON CONFLICT (${key}) DO UPDATE SET doc = excluded.doc`,
      id,
      JSON.stringify(doc),
    );
  }

  delete(id: string): void {
    this.#sql.exec(`DELETE FROM ${this.#table} WHERE ${KEYS[this.#table]} = ?`, id);
  }
}
