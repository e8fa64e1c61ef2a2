import { posix } from "node:path";
import { ApiError } from "../contract/errors.ts";

/** The path without slashes at its end. */
export function trimmed(path: string): string {
  let end = path.length;
  while (end > 1 && path[end - 1] === "/") end--;
  return path.slice(0, end);
}

/** Throws where a path cannot be that of an entry that is moved or removed: the root, and `.` or `..` at the end. */
export function checkEntry(path: string, what: string): void {
  if (trimmed(path) === "/") throw new ApiError("permission_denied", { detail: `${what} is the root directory.` });
  const last = posix.basename(path);
  if (last === "." || last === "..")
    throw new ApiError("invalid_request", { detail: `${what} must not end in \`.\` or \`..\`.` });
}
