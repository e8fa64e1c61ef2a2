import { and, eq, gt } from "drizzle-orm";
import type { Image } from "../contract/image.ts";
import type { Page } from "../contract/list.ts";
import type { BackendName } from "../contract/sandbox.ts";
import { Keyset, type PageRequest } from "./cursor.ts";
import { openDatabase, type Database } from "./database.ts";
import { images } from "./schema.ts";

/** A snapshot and where it is. Times are milliseconds since 1970. */
export interface ImageRow {
  imageId: string;
  environment: string;
  sandboxId: string;
  name: string | null;
  backend: BackendName;
  hostId: string | null;
  snapshotId: string | null;
  size: number;
  createdAt: number;
  expiresAt: number;
}

const keyset = new Keyset(images.createdAt, images.imageId);

/** The snapshots of every environment. An expired one is not there. */
export class ImageCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Adds the image; where one of this id is there already, that one stays. Returns the one that is there. */
  async add(row: ImageRow): Promise<ImageRow> {
    const [, [kept]] = await this.#db.batch([
      this.#db.insert(images).values(row).onConflictDoNothing(),
      this.#db.select().from(images).where(eq(images.imageId, row.imageId)),
    ]);
    return kept ?? row;
  }

  async find(environment: string, imageId: string, now: number): Promise<ImageRow | undefined> {
    const [row] = await this.#db
      .select()
      .from(images)
      .where(and(eq(images.environment, environment), eq(images.imageId, imageId), gt(images.expiresAt, now)));
    return row;
  }

  /** Images, newest first. */
  async list(environment: string, now: number, page: PageRequest): Promise<Page<Image>> {
    const rows = await this.#db
      .select()
      .from(images)
      .where(keyset.after(page.cursor, eq(images.environment, environment), gt(images.expiresAt, now)))
      .orderBy(...keyset.order)
      .limit(page.limit + 1);
    return keyset.page(rows, page.limit, (row) => ({ createdAt: row.createdAt, id: row.imageId }), describeImage);
  }

  /** True when there was such an image. */
  async remove(environment: string, imageId: string): Promise<boolean> {
    const removed = await this.#db
      .delete(images)
      .where(and(eq(images.environment, environment), eq(images.imageId, imageId)))
      .returning({ imageId: images.imageId });
    return removed.length > 0;
  }
}

/** The image as the API shows it. */
export function describeImage(row: ImageRow): Image {
  return {
    image_id: row.imageId,
    kind: "snapshot",
    backend: row.backend,
    sandbox_id: row.sandboxId,
    ...(row.name !== null && { name: row.name }),
    size: row.size,
    created_at: new Date(row.createdAt).toISOString(),
    expires_at: new Date(row.expiresAt).toISOString(),
  };
}
