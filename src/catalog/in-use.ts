import { and, eq, notExists, sql, type SQL } from "drizzle-orm";
import type { SQLiteColumn, SQLiteTable } from "drizzle-orm/sqlite-core";
import type { Database } from "./database.ts";
import { sandboxes } from "./schema.ts";

export type Removal =
  | { kind: "removed" | "missing" }
  /** `sandboxIds`: the newest that use it, of so many. */
  | { kind: "in_use"; sandboxIds: string[]; total: number };

const MAX_USERS_NAMED = 10;

/** Which sandboxes have the secret, or the volume. */
export const secretUsed = (environment: string, id: string): SQL =>
  usedIn(
    environment,
    sql`(${id} IN (SELECT value FROM json_each(${sandboxes.doc}, '$.secrets'))
      OR ${id} IN (SELECT json_extract(value, '$.secret') FROM json_each(${sandboxes.doc}, '$.egress_headers')))`,
  );
export const volumeUsed = (environment: string, id: string): SQL =>
  usedIn(
    environment,
    sql`${id} IN (SELECT json_extract(value, '$.volume_id') FROM json_each(${sandboxes.doc}, '$.volumes'))`,
  );

const usedIn = (environment: string, uses: SQL): SQL =>
  and(eq(sandboxes.environment, environment), eq(sandboxes.live, true), uses)!;

/**
 * Removes the row that is `one` unless a live sandbox uses it (`used`), in one step: a sandbox that comes up at the same time either is
 * seen here, or does not find it.
 */
export async function removeUnused(
  db: Database,
  table: SQLiteTable,
  id: SQLiteColumn,
  one: SQL,
  used: SQL,
): Promise<Removal> {
  const users = () =>
    db
      .select({ sandboxId: sandboxes.sandboxId, total: sql<number>`count(*) OVER ()` })
      .from(sandboxes)
      .where(used)
      .orderBy(sql`${sandboxes.createdAt} DESC`)
      .limit(MAX_USERS_NAMED);
  const [removed, found, there] = await db.batch([
    db
      .delete(table)
      .where(and(one, notExists(users())))
      .returning({ id }),
    users(),
    db.select({ id }).from(table).where(one),
  ]);
  if (removed.length > 0) return { kind: "removed" };
  if (there.length === 0) return { kind: "missing" };
  return { kind: "in_use", sandboxIds: found.map(({ sandboxId }) => sandboxId), total: found[0]?.total ?? 0 };
}
