import type { ByteRange } from "../contract/byte-range.ts";
import { ApiError } from "../contract/errors.ts";
import type { FileInfo, FileList, FileListRequest } from "../contract/file.ts";
import { VOLUME_CHUNK_BYTES } from "../contract/volume-sync.ts";
import { windowOf } from "./byte-window.ts";
import { fileInfoOf, type FileRow } from "./file-info.ts";
import { findPath, plainPath, type FoundFile } from "./find-path.ts";
import type { VolumeRow } from "./record.ts";
import { isBelow } from "./rows.ts";
import type { FileContent, Piece } from "./rpc.ts";

const LIST = `
  SELECT path, type, size, mode, uid, gid, mtime, target FROM entries
  WHERE path > ?2 AND (?1 = '' OR (${isBelow("path", "?1")})) AND type <> 'removed'
  AND length(path) - length(replace(path, '/', '')) < ?3 ORDER BY path LIMIT ?4`;
const CONTENT = `
  SELECT packs.pack_id AS pack, chunks.offset, chunks.length FROM entry_chunks
  JOIN chunks ON chunks.id = entry_chunks.chunk JOIN packs ON packs.id = chunks.pack
  WHERE entry = ? AND position BETWEEN ? AND ? ORDER BY position`;

const below = (path: string): string => (path.endsWith("/") ? path : `${path}/`);
const slashesOf = (path: string): number => path.split("/").length - 1;

/** The files as those read them who are in no sandbox. */
export class VolumeFiles {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  stat(volume: VolumeRow, path: string): FileInfo {
    return fileInfoOf(this.#find(volume, path, "keep"), plainPath(path));
  }

  /** In the order of their paths, by code points; the paths are as seen from the one that was asked for. */
  list(volume: VolumeRow, path: string, { depth, limit, after }: FileListRequest): FileList {
    const directory = this.#find(volume, path, "follow");
    if (directory.type !== "directory")
      throw new ApiError("not_a_directory", { detail: `\`${path}\` is not a directory.` });
    const shown = below(plainPath(path));
    const real = directory.path === "" ? "" : below(directory.path);
    const behind = after?.startsWith(shown) ? real + after.slice(shown.length) : "";
    const rows = this.#sql.exec<FileRow>(LIST, directory.path, behind, slashesOf(real) + depth, limit + 1).toArray();
    const data = rows.slice(0, limit).map((row) => fileInfoOf(row, shown + row.path.slice(real.length)));
    return { data, more: rows.length > limit };
  }

  content(volume: VolumeRow, path: string, asked: ByteRange | undefined): FileContent {
    const { id, type, size } = this.#find(volume, path, "follow");
    if (type === "directory") throw new ApiError("is_a_directory", { detail: `\`${path}\` is a directory.` });
    const range = asked && windowOf(asked, size);
    const { first, last } = range ?? { first: 0, last: size - 1 };
    return { size, range, pieces: last < first ? [] : this.#pieces(id!, first, last) };
  }

  #find(
    { committed_at: committedAt, created_at: createdAt }: VolumeRow,
    path: string,
    last: "follow" | "keep",
  ): FoundFile {
    return findPath(this.#sql, path, committedAt ?? createdAt, last);
  }

  /** Chunks that lie one behind the other in a pack are one piece. */
  #pieces(entry: number, first: number, last: number): Piece[] {
    const [from, to] = [Math.floor(first / VOLUME_CHUNK_BYTES), Math.floor(last / VOLUME_CHUNK_BYTES)];
    const pieces: Piece[] = [];
    let position = from;
    for (const { pack, offset, length } of this.#sql.exec<Piece>(CONTENT, entry, from, to)) {
      const start = Math.max(0, first - position * VOLUME_CHUNK_BYTES);
      const end = Math.min(length, last + 1 - position * VOLUME_CHUNK_BYTES);
      const before = pieces.at(-1);
      if (before?.pack === pack && before.offset + before.length === offset + start) before.length += end - start;
      else pieces.push({ pack, offset: offset + start, length: end - start });
      position += 1;
    }
    return pieces;
  }
}
