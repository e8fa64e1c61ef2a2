import { hasTables } from "./schema.ts";

/** The timers of a sandbox. Each fires at most once per setting. */
export const TIMERS = [
  "start",
  "probe",
  "lifetime",
  "deadline",
  "network",
  "idle",
  "outbox",
  "cleanup",
  "sockets",
  "container",
  "retention",
  "snapshot",
] as const;
export type Timer = (typeof TIMERS)[number];

/**
 * Many timers on the object's one alarm: they stand in a table, and after every change the alarm is set
 * to the earliest. Times are milliseconds since 1970. What is so already is not written again.
 */
export class Timers {
  readonly #storage: DurableObjectStorage;
  readonly #due = new Map<Timer, number>();
  /** Those whose work is under way, and when it is looked after again. Not written down: a crash repeats it. */
  readonly #held = new Map<Timer, number>();
  /** What the alarm is known to be set to. */
  #armedAt: number | undefined;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    if (!hasTables(storage.sql)) return;
    for (const row of storage.sql.exec<{ name: Timer; due_at: number }>("SELECT name, due_at FROM timers")) {
      this.#due.set(row.name, row.due_at);
    }
  }

  set(name: Timer, dueAt: number): void {
    if (this.#due.get(name) === dueAt) return;
    this.#due.set(name, dueAt);
    this.#storage.sql.exec(
      "INSERT INTO timers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET due_at = excluded.due_at",
      name,
      dueAt,
    );
    this.#arm();
  }

  clear(...names: Timer[]): void {
    const there = names.filter((name) => this.#due.delete(name));
    for (const name of there) this.#storage.sql.exec("DELETE FROM timers WHERE name = ?", name);
    if (there.length > 0) this.#arm();
  }

  /** Forgets all of them; the storage itself is deleted by whoever calls. */
  drop(): void {
    this.#due.clear();
    this.#arm();
  }

  dueAt(name: Timer): number | undefined {
    return this.#due.get(name);
  }

  /** The alarm has gone off. Answers the timers due now; they stay until set anew or cleared, so that a crash repeats them. */
  goneOff(now: number): Timer[] {
    this.#armedAt = undefined;
    const due = [...this.#due].filter(([name]) => this.#firesAt(name) <= now);
    return due.toSorted(([, a], [, b]) => a - b).map(([name]) => name);
  }

  /** The work of a timer is under way: it does not fire before `until`, whenever it is due. */
  hold(name: Timer, until: number): void {
    this.#held.set(name, until);
  }

  /** The work is done. */
  release(name: Timer): void {
    this.#held.delete(name);
    this.#arm();
  }

  #firesAt(name: Timer): number {
    return Math.max(this.#due.get(name) ?? Infinity, this.#held.get(name) ?? 0);
  }

  /** Called at the end of the alarm handler: the alarm that ran is gone, the timers left need one. */
  rearm(): void {
    this.#armedAt = undefined;
    this.#arm();
  }

  /** Sets the alarm to the earliest timer, or takes it away. */
  #arm(): void {
    const earliest = Math.min(...[...this.#due.keys()].map((name) => this.#firesAt(name)));
    if (earliest === this.#armedAt) return;
    this.#armedAt = earliest;
    if (earliest === Infinity) void this.#storage.deleteAlarm();
    else void this.#storage.setAlarm(earliest);
  }
}
