import { and, eq, isNull, lt, sql } from "drizzle-orm";
import { openDatabase, type Database } from "./database.ts";
import { idempotencyKeys } from "./schema.ts";

const KEPT_MS = 24 * 3_600_000;

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
  /** Go on with this plan. `isFirst` is false where another request with the key has begun, and may be under way or have died. */
  | { kind: "begun"; plan: string; isFirst: boolean }
  | { kind: "answered"; answer: string }
  /** The key was used with another request. */
  | { kind: "conflict" };

/** What the creating requests of the last day were to make, and were answered. */
export class IdempotencyCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Takes the key for this request and its plan, or tells the plan or the answer of the first one with it. */
  async begin(use: IdempotencyUse, plan: string, now: number): Promise<IdempotencyBegin> {
    const first = { ...use, plan, requests: 1, answer: null, createdAt: now };
    const isOver = lt(idempotencyKeys.createdAt, now - KEPT_MS);
    const [, , [row]] = await this.#db.batch([
      this.#db.delete(idempotencyKeys).where(and(isUse(use), isOver)),
      this.#db
        .insert(idempotencyKeys)
        .values(first)
        .onConflictDoUpdate({
          target: [idempotencyKeys.environment, idempotencyKeys.operation, idempotencyKeys.key],
          set: { requests: sql`${idempotencyKeys.requests} + 1` },
          setWhere: eq(idempotencyKeys.requestHash, use.requestHash),
        }),
      this.#db.select().from(idempotencyKeys).where(isUse(use)),
    ]);
    if (!row || row.requestHash !== use.requestHash) return { kind: "conflict" };
    if (row.answer !== null) return { kind: "answered", answer: row.answer };
    return { kind: "begun", plan: row.plan, isFirst: row.plan === plan };
  }

  /** Keeps the answer unless there is one, and forgets those of the days before. Returns the one that is kept. */
  async complete(use: IdempotencyUse, answer: string, now: number): Promise<string> {
    const [, , [row]] = await this.#db.batch([
      this.#db
        .update(idempotencyKeys)
        .set({ answer })
        .where(and(isUse(use), isNull(idempotencyKeys.answer))),
      this.#db.delete(idempotencyKeys).where(lt(idempotencyKeys.createdAt, now - KEPT_MS)),
      this.#db.select({ answer: idempotencyKeys.answer }).from(idempotencyKeys).where(isUse(use)),
    ]);
    return row?.answer ?? answer;
  }

  /** Gives the key back, of a request that made nothing: unless another one came with it, which may have made something. */
  async abandon(use: IdempotencyUse): Promise<void> {
    await this.#db
      .delete(idempotencyKeys)
      .where(and(isUse(use), isNull(idempotencyKeys.answer), eq(idempotencyKeys.requests, 1)));
  }
}

function isUse(use: IdempotencyUse) {
  return and(
    eq(idempotencyKeys.environment, use.environment),
    eq(idempotencyKeys.operation, use.operation),
    eq(idempotencyKeys.key, use.key),
  );
}
