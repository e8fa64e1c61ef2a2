import { and, count, eq, gt, inArray, or } from "drizzle-orm";
import { ApiError } from "../contract/errors.ts";
import type { Page } from "../contract/list.ts";
import type { Secret } from "../contract/secret.ts";
import { Keyset, type PageRequest } from "./cursor.ts";
import { openDatabase, type Database } from "./database.ts";
import { removeUnused, secretUsed, type Removal } from "./in-use.ts";
import { secrets } from "./schema.ts";

/** A secret as it is kept. Times are milliseconds since 1970. */
export type SecretRow = typeof secrets.$inferSelect;

/** What of it is encrypted, and whose it is. */
export type SealedRow = Pick<SecretRow, "secretId" | "environment" | "sealed" | "dataKey" | "wrappedBy">;

type Content = Pick<SecretRow, "keys" | "sealed" | "dataKey" | "wrappedBy">;

/** A data key that was wrapped anew, and what it was before. */
interface Rewrapped {
  secretId: string;
  before: string;
  dataKey: string;
}

const keyset = new Keyset(secrets.createdAt, secrets.secretId);
const { secretId, environment, name, keys, createdAt, updatedAt, sealed, dataKey, wrappedBy } = secrets;
const SHOWN = { secretId, name, keys, createdAt, updatedAt };
const SEALED = { secretId, environment, sealed, dataKey, wrappedBy };

/** The secrets of all environments. What they hold is encrypted before it comes here. */
export class SecretCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Safe to repeat. Throws `conflict` where another has the name. */
  async add(row: SecretRow): Promise<Secret> {
    const isNamed = and(eq(environment, row.environment), eq(name, row.name));
    const [added, there] = await this.#db.batch([
      this.#db.insert(secrets).values(row).onConflictDoNothing().returning(SHOWN),
      this.#db
        .select(SHOWN)
        .from(secrets)
        .where(or(isOf(row.environment, row.secretId), isNamed)),
    ]);
    const own = added[0] ?? there.find((one) => one.secretId === row.secretId);
    if (own) return describeSecret(own);
    throw new ApiError("conflict", { detail: `\`${row.name}\` is the name of ${there[0]?.secretId}.` });
  }

  /** Secrets, newest first. */
  async list(ofEnvironment: string, page: PageRequest): Promise<Page<Secret>> {
    const rows = await this.#db
      .select(SHOWN)
      .from(secrets)
      .where(keyset.after(page.cursor, eq(environment, ofEnvironment)))
      .orderBy(...keyset.order)
      .limit(page.limit + 1);
    return keyset.page(rows, page.limit, (row) => ({ createdAt: row.createdAt, id: row.secretId }), describeSecret);
  }

  async find(ofEnvironment: string, id: string): Promise<Secret | undefined> {
    const [row] = await this.#db.select(SHOWN).from(secrets).where(isOf(ofEnvironment, id));
    return row && describeSecret(row);
  }

  /** Those of these ids and these names. */
  async named(
    ofEnvironment: string,
    references: readonly string[],
  ): Promise<Pick<SecretRow, "secretId" | "name" | "keys" | "wrappedBy">[]> {
    return this.#db
      .select({ secretId, name, keys, wrappedBy })
      .from(secrets)
      .where(
        and(eq(environment, ofEnvironment), or(inArray(secretId, [...references]), inArray(name, [...references]))),
      );
  }

  /** Undefined where there is none. */
  async replace(ofEnvironment: string, id: string, content: Content, now: number): Promise<Secret | undefined> {
    const [row] = await this.#db
      .update(secrets)
      .set({ ...content, updatedAt: now })
      .where(isOf(ofEnvironment, id))
      .returning(SHOWN);
    return row && describeSecret(row);
  }

  async sealed(ofEnvironment: string, ids: readonly string[]): Promise<SealedRow[]> {
    return this.#db
      .select(SEALED)
      .from(secrets)
      .where(and(eq(environment, ofEnvironment), inArray(secretId, [...ids])));
  }

  /** Removes it unless a live sandbox uses it: one that comes up at the same time either is seen here, or does not find it. */
  async remove(ofEnvironment: string, id: string): Promise<Removal> {
    return removeUnused(this.#db, secrets, secretId, isOf(ofEnvironment, id)!, secretUsed(ofEnvironment, id));
  }

  /** Those under any of these keys, of all environments, in the order of their ids. */
  async wrappedBy(fingerprints: readonly string[], after: string, limit: number): Promise<SealedRow[]> {
    return this.#db
      .select(SEALED)
      .from(secrets)
      .where(and(inArray(wrappedBy, [...fingerprints]), gt(secretId, after)))
      .orderBy(secretId)
      .limit(limit);
  }

  /** Each unless it was replaced meanwhile. */
  async rewrap(rows: readonly Rewrapped[], fingerprint: string): Promise<void> {
    const [first, ...rest] = rows.map((row) =>
      this.#db
        .update(secrets)
        .set({ dataKey: row.dataKey, wrappedBy: fingerprint })
        .where(and(eq(secretId, row.secretId), eq(dataKey, row.before))),
    );
    if (first) await this.#db.batch([first, ...rest]);
  }

  /** How many are under which key. */
  async countByKey(): Promise<Record<string, number>> {
    const rows = await this.#db.select({ wrappedBy, total: count() }).from(secrets).groupBy(wrappedBy);
    return Object.fromEntries(rows.map((row) => [row.wrappedBy, row.total]));
  }
}

const isOf = (ofEnvironment: string, id: string) => and(eq(environment, ofEnvironment), eq(secretId, id));

/** The secret as the API shows it. */
function describeSecret(row: Pick<SecretRow, keyof typeof SHOWN>): Secret {
  return {
    secret_id: row.secretId,
    name: row.name,
    keys: row.keys,
    created_at: new Date(row.createdAt).toISOString(),
    updated_at: new Date(row.updatedAt).toISOString(),
  };
}
