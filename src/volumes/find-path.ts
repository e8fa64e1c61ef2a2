import { ApiError } from "../contract/errors.ts";
import type { FileRow } from "./file-info.ts";

/** As the kernel has it. */
const MAX_LINKS = 40;

/** An entry that is there; of the root, the one thing without an entry, there is no `id`. */
export type FoundFile = FileRow & { id?: number };

const COLUMNS = "id, path, type, size, mode, uid, gid, mtime, target";

/**
 * Follows an absolute path from the volume's root. A link leads nowhere but within the volume: one to an absolute path, or above the
 * root, would be read in a sandbox's own files, of which there are none here. `last`: what to do with a link at the very end.
 */
export function findPath(sql: SqlStorage, path: string, modifiedAt: number, last: "follow" | "keep"): FoundFile {
  const root: FoundFile = {
    path: "",
    type: "directory",
    size: 0,
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: `${modifiedAt}000000`,
    target: null,
  };
  const left = partsOf(path);
  let links = 0;
  let at = root;
  while (left.length > 0) {
    const part = left.shift()!;
    if (at.type !== "directory")
      throw new ApiError("not_a_directory", { detail: `\`/${at.path}\` is not a directory.` });
    if (part === "" || part === ".") continue;
    if (part === "..") {
      // Of a path that was asked for, what is above the root is the root.
      if (at.path === "" && links > 0) throw notFound(path);
      at = at.path === "" ? root : (find(sql, at.path.slice(0, Math.max(0, at.path.lastIndexOf("/")))) ?? root);
      continue;
    }
    const found = find(sql, at.path === "" ? part : `${at.path}/${part}`);
    if (!found) throw notFound(path);
    if (found.type !== "symlink" || (last === "keep" && left.length === 0)) {
      at = found;
      continue;
    }
    links += 1;
    if (links > MAX_LINKS || found.target!.startsWith("/")) throw notFound(path);
    left.unshift(...partsOf(found.target!));
  }
  return at;
}

/** The path as it is shown: as it was asked for, without what leads nowhere. */
export function plainPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/** A slash at the end asks for a directory: an empty part behind it. */
const partsOf = (path: string): string[] => path.replace(/^\/+/, "").split(/\/+/);

function find(sql: SqlStorage, path: string): FoundFile | undefined {
  const query = `SELECT ${COLUMNS} FROM entries WHERE path = ? AND type <> 'removed'`;
  return sql.exec<FoundFile & { id: number }>(query, path).toArray()[0];
}

const notFound = (path: string) =>
  new ApiError("file_not_found", { detail: `There is no file \`${path}\` in the volume.` });
