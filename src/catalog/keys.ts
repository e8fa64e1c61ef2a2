import { and, eq, isNull } from "drizzle-orm";
import type { Key, ScopeName } from "../contract/key.ts";
import type { Page } from "../contract/list.ts";
import { Keyset, type PageRequest } from "./cursor.ts";
import { openDatabase, type Database } from "./database.ts";
import { apiKeys } from "./schema.ts";

/** An API key without the key itself. */
export interface KeyRow {
  keyId: string;
  environment: string;
  name: string;
  /** SHA-256 of the key, hexadecimal. */
  hash: string;
  scopes: ScopeName[];
  createdAt: number;
}

const keyset = new Keyset(apiKeys.createdAt, apiKeys.keyId);

/** The API keys. `environment` undefined stands for all of them. */
export class KeyCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Safe to repeat. */
  async add(row: KeyRow): Promise<void> {
    await this.#db.insert(apiKeys).values(row).onConflictDoNothing();
  }

  /** The key of this hash, unless it is revoked. */
  async findByHash(hash: string): Promise<KeyRow | undefined> {
    const [row] = await this.#db
      .select()
      .from(apiKeys)
      .where(and(eq(apiKeys.hash, hash), isNull(apiKeys.revokedAt)));
    return row;
  }

  /** Keys that are not revoked, newest first. */
  async list(environment: string | undefined, page: PageRequest): Promise<Page<Key>> {
    const rows = await this.#db
      .select()
      .from(apiKeys)
      .where(keyset.after(page.cursor, inEnvironment(environment), isNull(apiKeys.revokedAt)))
      .orderBy(...keyset.order)
      .limit(page.limit + 1);
    return keyset.page(rows, page.limit, (row) => ({ createdAt: row.createdAt, id: row.keyId }), describeKey);
  }

  /** True when there is such a key, revoked now or before. */
  async revoke(environment: string | undefined, keyId: string, now: number): Promise<boolean> {
    const isKey = and(inEnvironment(environment), eq(apiKeys.keyId, keyId));
    const [, found] = await this.#db.batch([
      this.#db
        .update(apiKeys)
        .set({ revokedAt: now })
        .where(and(isKey, isNull(apiKeys.revokedAt))),
      this.#db.select({ keyId: apiKeys.keyId }).from(apiKeys).where(isKey),
    ]);
    return found.length > 0;
  }
}

const inEnvironment = (environment: string | undefined) =>
  environment === undefined ? undefined : eq(apiKeys.environment, environment);

/** The key as the API shows it. */
export function describeKey(row: KeyRow): Key {
  return {
    key_id: row.keyId,
    name: row.name,
    environment: row.environment,
    scopes: row.scopes,
    created_at: new Date(row.createdAt).toISOString(),
  };
}
