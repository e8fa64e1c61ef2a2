import type { SandboxEvent } from "../contract/sandbox-event.ts";
import { hasTables } from "./schema.ts";

/** Beyond so many events the oldest changes by clients go; transitions stay. */
const MAX_EVENTS = 250;

export interface LoggedEvent {
  /** Counts the events of the sandbox from 1 on. */
  seq: number;
  event: SandboxEvent;
}

/** Everything that happened to the sandbox, in its order. */
export class EventLog {
  readonly #sql: SqlStorage;

  constructor(storage: DurableObjectStorage) {
    this.#sql = storage.sql;
  }

  append(event: SandboxEvent): void {
    this.#sql.exec("INSERT INTO events SELECT coalesce(max(seq), 0) + 1, ? FROM events", JSON.stringify(event));
    if (event.type === "updated") this.#prune();
  }

  /** The events behind the one of this number. */
  after(seq: number): LoggedEvent[] {
    if (!hasTables(this.#sql)) return [];
    return this.#sql
      .exec<{ seq: number; event: string }>("SELECT seq, event FROM events WHERE seq > ? ORDER BY seq", seq)
      .toArray()
      .map(({ seq, event }) => ({ seq, event: JSON.parse(event) as SandboxEvent }));
  }

  #prune(): void {
    this.#sql.exec(
      `DELETE FROM events WHERE seq IN (
         SELECT seq FROM events WHERE event ->> '$.type' = 'updated' ORDER BY seq DESC LIMIT -1 OFFSET ?)`,
      MAX_EVENTS,
    );
  }
}
