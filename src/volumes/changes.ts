import { base64url } from "jose";
import { z } from "zod";
import { ApiError } from "../contract/errors.ts";
import { VOLUME_CHUNK_BYTES, type VolumeChanges, type VolumeEntry } from "../contract/volume-sync.ts";
import type { VolumeRow } from "./record.ts";
import type { ChangesRequest } from "./rpc.ts";
import { isBelow } from "./rows.ts";

/** A page ends before it is longer than this, or with its first entry: what RPC takes is four times that. */
const MAX_PAGE_CHARACTERS = 8 * 1024 * 1024;
const HASH_CHARACTERS = 67;
/** Content of more chunks is asked for by itself: as one text it would not fit. */
const MAX_INLINE_CHUNKS = 1000;

const CONTENT = `
  SELECT group_concat(chunks.hash, ' ' ORDER BY position) AS hashes FROM entry_chunks JOIN chunks ON chunks.id = entry_chunks.chunk
  WHERE entry = `;
const ENTRIES = `
  SELECT id, path, version, type, size, mode, uid, gid, mtime, target,
    CASE WHEN type = 'file' AND size <= ${MAX_INLINE_CHUNKS * VOLUME_CHUNK_BYTES} THEN (${CONTENT} entries.id) END AS hashes
  FROM entries WHERE (version, path) > (?1, ?2) AND (type <> 'removed' OR version > ?3)
  AND (?4 IS NULL OR (${isBelow("path", "?4")})) ORDER BY version, path`;

type EntryRow = {
  id: number;
  path: string;
  version: number;
  type: VolumeEntry["type"];
  size: number;
  mode: number;
  uid: number;
  gid: number;
  mtime: string;
  target: string;
  hashes: string | null;
};

/** Behind which entry a page begins, and what the volume was at when the first one did. */
const CursorSchema = z.tuple([z.int().min(0), z.string(), z.int().min(0)]);
type Cursor = z.infer<typeof CursorSchema>;

/** What became of the volume since a version. An entry that changes while one page after the other is read comes again behind. */
export class Changes {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  page(volume: VolumeRow, { since, after, prefix, limit }: ChangesRequest): VolumeChanges {
    requireTold(volume, since);
    // Who begins with nothing needs no word of what was removed before.
    const first: Cursor = [since + 1, "", since === 0 ? volume.version : since];
    const [version, path, removedSince] = after === undefined ? first : decode(after);
    if (since === 0 && removedSince < volume.told_since) throw notTold(removedSince);
    const entries: VolumeEntry[] = [];
    let characters = 0;
    let last: EntryRow | undefined;
    for (const row of this.#sql.exec<EntryRow>(ENTRIES, version, path, removedSince, prefix ?? null)) {
      characters += row.path.length + 200 + Math.ceil(row.size / VOLUME_CHUNK_BYTES) * HASH_CHARACTERS;
      const isFull = entries.length === limit || (last && characters > MAX_PAGE_CHARACTERS);
      if (isFull && last)
        return { version: volume.version, entries, after: encode([last.version, last.path, removedSince]) };
      entries.push(this.#entryOf(row));
      last = row;
    }
    return { version: volume.version, entries };
  }

  #entryOf(row: EntryRow): VolumeEntry {
    const { path, type, size, mode, uid, gid, mtime, target } = row;
    if (type === "removed") return { path, type };
    const owned = { path, mode, uid, gid, mtime };
    if (type === "directory") return { ...owned, type };
    if (type === "symlink") return { ...owned, type, target };
    return { ...owned, type, size, chunks: this.#hashesOf(row) };
  }

  #hashesOf({ id, size, hashes }: EntryRow): string[] {
    if (size === 0) return [];
    if (hashes !== null) return hashes.split(" ");
    const all: string[] = [];
    for (let at = 0; at < Math.ceil(size / VOLUME_CHUNK_BYTES); at += MAX_INLINE_CHUNKS) {
      const query = `${CONTENT} ? AND position >= ? AND position < ?`;
      const { hashes: some } = this.#sql.exec<{ hashes: string }>(query, id, at, at + MAX_INLINE_CHUNKS).one();
      all.push(...some.split(" "));
    }
    return all;
  }
}

function requireTold({ version, told_since: toldSince }: VolumeRow, since: number): void {
  if (since > version) {
    throw new ApiError("invalid_request", {
      detail: `The volume is at version ${version}.`,
      errors: [{ path: "since", message: "must not lie ahead" }],
    });
  }
  if (since > 0 && since < toldSince) throw notTold(since);
}

const notTold = (since: number) =>
  new ApiError("conflict", { detail: `What was removed since version ${since} is no longer known: begin with 0.` });

const encode = (cursor: Cursor): string => base64url.encode(JSON.stringify(cursor));

function decode(after: string): Cursor {
  try {
    return CursorSchema.parse(JSON.parse(new TextDecoder().decode(base64url.decode(after))));
  } catch {
    throw new ApiError("invalid_request", {
      detail: "The cursor is not one that a page has given.",
      errors: [{ path: "after", message: "must be the `after` of a page" }],
    });
  }
}
