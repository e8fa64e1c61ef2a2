import { fileInfo, timeOf, TYPE_BITS } from "../contract/file-info.ts";
import type { FileInfo } from "../contract/file.ts";

/** What an entry says of a file without a sandbox around it. */
export type FileRow = {
  /** Relative; empty of the root. */
  path: string;
  type: "file" | "directory" | "symlink";
  size: number;
  mode: number;
  uid: number;
  gid: number;
  /** Nanoseconds since 1970, in decimal. */
  mtime: string;
  target: string | null;
};

/** The file as the API shows it at a path. There are no names of users in a volume: owner and group are numbers. */
export function fileInfoOf(row: FileRow, path: string): FileInfo {
  const { type, size, mode, uid, gid, mtime, target } = row;
  return fileInfo(path, {
    mode: TYPE_BITS[type] | mode,
    size: BigInt(target === null ? size : new TextEncoder().encode(target).length),
    ...timeOf(BigInt(mtime)),
    owner: String(uid),
    group: String(gid),
    target: target ?? undefined,
  });
}
