import { and, eq, lt, or, isNull, sql } from "drizzle-orm";
import { openDatabase, type Database } from "./database.ts";
import { idempotencyKeys } from "./schema.ts";

const KEPT_MS = 24 * 3_600_000;
/** A request that was begun this long ago and has no answer died on the way: another may take its place. */
const ABANDONED_MS = 15 * 60_000;

/** One use of an idempotency key. */
export interface IdempotencyUse {
  environment: string;
  /** Method and path. */
  operation: string;
  key: string;
  /** SHA-256 of the request's body. */
  requestHash: string;
}

export type IdempotencyBegin =
  | { kind: "fresh" }
  | { kind: "replay"; response: { status: number; body: string } }
  /** The key was used with another request. */
  | { kind: "conflict" }
  /** The first request with this key has no answer yet. */
  | { kind: "running" };

/** What the creating requests of the last day were answered. */
export class IdempotencyCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Takes the key for this request, or tells what became of the first one with it. */
  async begin(use: IdempotencyUse, now: number): Promise<IdempotencyBegin> {
    const isOver = or(
      lt(idempotencyKeys.createdAt, now - KEPT_MS),
      and(isNull(idempotencyKeys.status), lt(idempotencyKeys.createdAt, now - ABANDONED_MS)),
    );
    const [fresh, found] = await this.#db.batch([
      this.#db
        .insert(idempotencyKeys)
        .values({ ...use, createdAt: now })
        .onConflictDoUpdate({
          target: [idempotencyKeys.environment, idempotencyKeys.operation, idempotencyKeys.key],
          set: { requestHash: use.requestHash, status: null, body: null, createdAt: now },
          setWhere: isOver!,
        })
        .returning({ key: idempotencyKeys.key }),
      this.#db.select().from(idempotencyKeys).where(isUse(use)),
    ]);
    const row = found[0];
    if (fresh.length > 0 || !row) return { kind: "fresh" };
    if (row.requestHash !== use.requestHash) return { kind: "conflict" };
    if (row.status === null) return { kind: "running" };
    return { kind: "replay", response: { status: row.status, body: row.body ?? "" } };
  }

  /** Keeps the answer, and forgets those of the days before. */
  async complete(use: IdempotencyUse, response: { status: number; body: string }, now: number): Promise<void> {
    await this.#db.batch([
      this.#db.update(idempotencyKeys).set(response).where(isUse(use)),
      this.#db.delete(idempotencyKeys).where(lt(idempotencyKeys.createdAt, sql`${now - KEPT_MS}`)),
    ]);
  }

  /** Gives the key back after a failure: the next request with it is the first again. */
  async abandon(use: IdempotencyUse): Promise<void> {
    await this.#db.delete(idempotencyKeys).where(and(isUse(use), isNull(idempotencyKeys.status)));
  }
}

function isUse(use: IdempotencyUse) {
  return and(
    eq(idempotencyKeys.environment, use.environment),
    eq(idempotencyKeys.operation, use.operation),
    eq(idempotencyKeys.key, use.key),
  );
}
