import { and, eq, gt, inArray, isNull, lte, or } from "drizzle-orm";
import type { HostInfo } from "../contract/host-info.ts";
import type { Image, ImageStatus } from "../contract/image.ts";
import type { Page } from "../contract/list.ts";
import { snapshotsOf } from "../contract/registry.ts";
import type { BackendName } from "../contract/sandbox.ts";
import { Keyset, type PageRequest } from "./cursor.ts";
import { openDatabase, type Database } from "./database.ts";
import { images } from "./schema.ts";

/** A snapshot and where it is. Times are milliseconds since 1970; see `schema.ts`. */
export interface ImageRow {
  imageId: string;
  environment: string;
  sandboxId: string;
  name: string | null;
  status: ImageStatus;
  error: string | null;
  parent: string | null;
  backend: BackendName;
  runtime: HostInfo["runtime"] | null;
  hostId: string | null;
  snapshotId: string | null;
  digest: string | null;
  size: number | null;
  createdAt: number;
  expiresAt: number | null;
}

/** What becomes of a snapshot that was pending. */
export type ImageOutcome =
  | (Pick<ImageRow, "runtime" | "hostId" | "snapshotId" | "digest"> & { status: "ready"; size: number })
  | { status: "failed"; error: string; expiresAt: number };

const keyset = new Keyset(images.createdAt, images.imageId);
/** D1 takes 100 parameters a statement. */
const IDS_AT_ONCE = 90;

const isOf = (environment: string, imageId: string) =>
  and(eq(images.environment, environment), eq(images.imageId, imageId));
const isKept = (now: number) => or(isNull(images.expiresAt), gt(images.expiresAt, now));

/** The snapshots of every environment. An expired one is not there. */
export class ImageCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /**
   * Adds a pending image; where one of this id is there already, that one stays, but for one that failed: it is tried again.
   * Returns the one that is there.
   */
  async add(row: ImageRow): Promise<ImageRow> {
    const again = { status: row.status, error: null, expiresAt: row.expiresAt };
    const [, [kept]] = await this.#db.batch([
      this.#db
        .insert(images)
        .values(row)
        .onConflictDoUpdate({ target: images.imageId, set: again, setWhere: eq(images.status, "failed") }),
      this.#db.select().from(images).where(eq(images.imageId, row.imageId)),
    ]);
    return kept ?? row;
  }

  /** Tells what became of a pending image. One that is no longer pending, or deleted, stays so. Safe to repeat. */
  async settle(imageId: string, outcome: ImageOutcome): Promise<void> {
    await this.#db
      .update(images)
      .set(outcome)
      .where(and(eq(images.imageId, imageId), eq(images.status, "pending")));
  }

  async find(environment: string, imageId: string, now: number): Promise<ImageRow | undefined> {
    const [row] = await this.#db
      .select()
      .from(images)
      .where(and(isOf(environment, imageId), isKept(now)));
    return row;
  }

  /** Images, newest first. */
  async list(environment: string, now: number, page: PageRequest): Promise<Page<Image>> {
    const rows = await this.#db
      .select()
      .from(images)
      .where(keyset.after(page.cursor, eq(images.environment, environment), isKept(now)))
      .orderBy(...keyset.order)
      .limit(page.limit + 1);
    return keyset.page(rows, page.limit, (row) => ({ createdAt: row.createdAt, id: row.imageId }), describeImage);
  }

  /** Ids of images whose time is over, at most so many. */
  async expired(environment: string, now: number, limit: number): Promise<string[]> {
    const rows = await this.#db
      .select({ imageId: images.imageId })
      .from(images)
      .where(and(eq(images.environment, environment), lte(images.expiresAt, now)))
      .limit(limit);
    return rows.map(({ imageId }) => imageId);
  }

  async hasAny(environment: string): Promise<boolean> {
    const [row] = await this.#db
      .select({ imageId: images.imageId })
      .from(images)
      .where(eq(images.environment, environment))
      .limit(1);
    return row !== undefined;
  }

  /** Forgets images. Safe to repeat. */
  async forget(environment: string, imageIds: string[]): Promise<void> {
    for (let at = 0; at < imageIds.length; at += IDS_AT_ONCE) {
      const some = inArray(images.imageId, imageIds.slice(at, at + IDS_AT_ONCE));
      await this.#db.delete(images).where(and(eq(images.environment, environment), some));
    }
  }

  /** Those of the ids that name no image any more, in any environment: what a host has of them is of no use. */
  async withoutImage(imageIds: string[], now: number): Promise<string[]> {
    const there = new Set<string>();
    for (let at = 0; at < imageIds.length; at += IDS_AT_ONCE) {
      const some = inArray(images.imageId, imageIds.slice(at, at + IDS_AT_ONCE));
      const rows = await this.#db
        .select({ imageId: images.imageId })
        .from(images)
        .where(and(some, isKept(now)));
      for (const { imageId } of rows) there.add(imageId);
    }
    return imageIds.filter((imageId) => !there.has(imageId));
  }
}

/** The image as the API shows it. */
export function describeImage(row: ImageRow): Image {
  return {
    image_id: row.imageId,
    kind: "snapshot",
    status: row.status,
    ...(row.error !== null && { error: row.error }),
    backend: row.backend,
    ...(row.runtime !== null && { runtime: row.runtime }),
    sandbox_id: row.sandboxId,
    ...(row.parent !== null && { parent: row.parent }),
    ...(row.name !== null && { name: row.name }),
    ...(row.digest !== null && { reference: `${snapshotsOf(row.environment)}:${row.imageId}`, digest: row.digest }),
    ...(row.size !== null && { size: row.size }),
    created_at: new Date(row.createdAt).toISOString(),
    ...(row.expiresAt !== null && { expires_at: new Date(row.expiresAt).toISOString() }),
  };
}
