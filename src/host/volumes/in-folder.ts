import { chmodSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { isRoot } from "../linux/programs.ts";

const OWNER_MAY_CHANGE = 0o300;

/**
 * Changes what is in the directory of a place (see `tree.ts`). Where that may not be written to, root does not mind; another daemon,
 * who is its owner, lets itself in for a moment.
 */
export function inFolderOf<T>(place: string, change: () => T): T {
  if (isRoot) return change();
  const folder = dirname(place);
  const mode = statSync(folder).mode & 0o7777;
  if ((mode & OWNER_MAY_CHANGE) === OWNER_MAY_CHANGE) return change();
  chmodSync(folder, mode | OWNER_MAY_CHANGE);
  try {
    return change();
  } finally {
    chmodSync(folder, mode);
  }
}
