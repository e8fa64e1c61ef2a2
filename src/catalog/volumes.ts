import { and, eq, inArray, or } from "drizzle-orm";
import { ApiError } from "../contract/errors.ts";
import type { Page } from "../contract/list.ts";
import type { Volume } from "../contract/volume.ts";
import { Keyset, type PageRequest } from "./cursor.ts";
import { openDatabase, type Database } from "./database.ts";
import { removeUnused, volumeUsed, type Removal } from "./in-use.ts";
import { volumes } from "./schema.ts";

/** A volume as it is kept: what is in it, its object knows. Times are milliseconds since 1970. */
export type VolumeRow = typeof volumes.$inferSelect;

const keyset = new Keyset(volumes.createdAt, volumes.volumeId);
const { volumeId, environment, name } = volumes;

/** The volumes of all environments. */
export class VolumeCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Safe to repeat. Throws `conflict` where another has the name. */
  async add(row: VolumeRow): Promise<Volume> {
    const isNamed = and(eq(environment, row.environment), eq(name, row.name));
    const [added, there] = await this.#db.batch([
      this.#db.insert(volumes).values(row).onConflictDoNothing().returning(),
      this.#db
        .select()
        .from(volumes)
        .where(or(isOf(row.environment, row.volumeId), isNamed)),
    ]);
    const own = added[0] ?? there.find((one) => one.volumeId === row.volumeId);
    if (own) return describeVolume(own);
    throw new ApiError("conflict", { detail: `\`${row.name}\` is the name of ${there[0]?.volumeId}.` });
  }

  /** Volumes, newest first. */
  async list(ofEnvironment: string, page: PageRequest): Promise<Page<Volume>> {
    const rows = await this.#db
      .select()
      .from(volumes)
      .where(keyset.after(page.cursor, eq(environment, ofEnvironment)))
      .orderBy(...keyset.order)
      .limit(page.limit + 1);
    return keyset.page(rows, page.limit, (row) => ({ createdAt: row.createdAt, id: row.volumeId }), describeVolume);
  }

  async find(ofEnvironment: string, id: string): Promise<Volume | undefined> {
    const [row] = await this.#db.select().from(volumes).where(isOf(ofEnvironment, id));
    return row && describeVolume(row);
  }

  /** Those of these ids and these names. */
  async named(ofEnvironment: string, references: readonly string[]): Promise<Pick<VolumeRow, "volumeId" | "name">[]> {
    return this.#db
      .select({ volumeId, name })
      .from(volumes)
      .where(
        and(eq(environment, ofEnvironment), or(inArray(volumeId, [...references]), inArray(name, [...references]))),
      );
  }

  /** Removes it unless a live sandbox uses it: one that comes up at the same time either is seen here, or does not find it. */
  async remove(ofEnvironment: string, id: string): Promise<Removal> {
    return removeUnused(this.#db, volumes, volumeId, isOf(ofEnvironment, id)!, volumeUsed(ofEnvironment, id));
  }
}

const isOf = (ofEnvironment: string, id: string) => and(eq(environment, ofEnvironment), eq(volumeId, id));

/** The volume as the API shows it. */
function describeVolume(row: VolumeRow): Volume {
  return { volume_id: row.volumeId, name: row.name, created_at: new Date(row.createdAt).toISOString() };
}
