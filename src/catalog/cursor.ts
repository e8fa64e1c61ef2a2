import { and, desc, sql, type SQL } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import { ApiError } from "../contract/errors.ts";
import type { Page } from "../contract/list.ts";

/** How lists are asked for: at most `limit`, from where the page before ended. */
export interface PageRequest {
  limit: number;
  cursor?: string | undefined;
}

/**
 * Newest first by (time, id). The cursor is the last row's pair, so that a page neither skips nor
 * repeats a row, whatever was added in the meantime.
 */
export class Keyset {
  readonly #createdAt: SQLiteColumn;
  readonly #id: SQLiteColumn;

  constructor(createdAt: SQLiteColumn, id: SQLiteColumn) {
    this.#createdAt = createdAt;
    this.#id = id;
  }

  get order(): SQL[] {
    return [desc(this.#createdAt), desc(this.#id)];
  }

  /** The condition that `conditions` hold and the row comes after the cursor. */
  after(cursor: string | undefined, ...conditions: (SQL | undefined)[]): SQL | undefined {
    if (cursor === undefined) return and(...conditions);
    const { createdAt, id } = decodeCursor(cursor);
    return and(...conditions, sql`(${this.#createdAt}, ${this.#id}) < (${createdAt}, ${id})`);
  }

  /** The page made of `limit + 1` rows: the one too many tells that there is another page. */
  page<Row, Item>(rows: Row[], limit: number, position: (row: Row) => Position, show: (row: Row) => Item): Page<Item> {
    return firstPage(rows, limit, position, show);
  }
}

/** The same of a list that is at hand, newest first. */
export function pageOf<Row, Item>(
  rows: Row[],
  { cursor, limit }: PageRequest,
  position: (row: Row) => Position,
  show: (row: Row) => Item,
): Page<Item> {
  if (cursor === undefined) return firstPage(rows, limit, position, show);
  const { createdAt, id } = decodeCursor(cursor);
  const isAfter = (at: Position) => at.createdAt < createdAt || (at.createdAt === createdAt && at.id < id);
  return firstPage(
    rows.filter((row) => isAfter(position(row))),
    limit,
    position,
    show,
  );
}

interface Position {
  createdAt: number;
  id: string;
}

function firstPage<Row, Item>(
  rows: Row[],
  limit: number,
  position: (row: Row) => Position,
  show: (row: Row) => Item,
): Page<Item> {
  const data = rows.slice(0, limit);
  const last = data.at(-1);
  return {
    data: data.map(show),
    ...(rows.length > limit && last !== undefined && { next_cursor: encodeCursor(position(last)) }),
  };
}

function encodeCursor({ createdAt, id }: Position): string {
  return btoa(`${createdAt}.${id}`).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function decodeCursor(cursor: string): Position {
  const match = /^(\d{1,15})\.([a-z0-9-]{1,64})$/.exec(decodeBase64url(cursor));
  if (!match) {
    throw new ApiError("invalid_request", {
      detail: "The cursor is not one that a list has given.",
      errors: [{ path: "cursor", message: "must be the next_cursor of a page" }],
    });
  }
  return { createdAt: Number(match[1]), id: match[2]! };
}

function decodeBase64url(text: string): string {
  try {
    return atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    return "";
  }
}
