/** The timers of a sandbox. Each fires at most once per setting. */
export const TIMERS = ["start", "probe", "lifetime", "idle", "outbox", "cleanup"] as const;
export type Timer = (typeof TIMERS)[number];

/**
 * Many timers on the object's one alarm: they stand in a table, and after every change the alarm is set
 * to the earliest. Times are milliseconds since 1970.
 */
export class Timers {
  readonly #storage: DurableObjectStorage;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    storage.sql.exec("CREATE TABLE IF NOT EXISTS timers (name TEXT PRIMARY KEY, due_at INTEGER NOT NULL) STRICT");
  }

  set(name: Timer, dueAt: number): void {
    this.#storage.sql.exec(
      "INSERT INTO timers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET due_at = excluded.due_at",
      name,
      dueAt,
    );
    this.#arm();
  }

  clear(...names: Timer[]): void {
    for (const name of names) this.#storage.sql.exec("DELETE FROM timers WHERE name = ?", name);
    this.#arm();
  }

  dueAt(name: Timer): number | undefined {
    const row = this.#storage.sql
      .exec<{ due_at: number }>("SELECT due_at FROM timers WHERE name = ?", name)
      .next().value;
    return row?.due_at;
  }

  /** The timers that are due now. They stay until set anew or cleared, so that a crash repeats them. */
  due(now: number): Timer[] {
    return this.#storage.sql
      .exec<{ name: Timer }>("SELECT name FROM timers WHERE due_at <= ? ORDER BY due_at", now)
      .toArray()
      .map((row) => row.name);
  }

  /** Sets the alarm to the earliest timer, or takes it away. */
  #arm(): void {
    const row = this.#storage.sql.exec<{ due_at: number | null }>("SELECT min(due_at) AS due_at FROM timers").one();
    if (row.due_at === null) void this.#storage.deleteAlarm();
    else void this.#storage.setAlarm(row.due_at);
  }

  /** Called at the end of the alarm handler: the alarm that ran is gone, the timers left need one. */
  rearm(): void {
    this.#arm();
  }
}
