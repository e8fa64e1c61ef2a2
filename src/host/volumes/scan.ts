import type { BigIntStats } from "node:fs";
import { isExhausted } from "../linux/confined.ts";
import type { Baseline, Known } from "./baseline.ts";
import { Slices } from "./slices.ts";
import { stampOf } from "./stamp.ts";
import { lstatAt, type Tree } from "./tree.ts";

/** More than this a volume cannot have. */
const MAX_FILES = 1_000_000;

/** What is not as it is known. */
export interface Changed {
  path: string;
  type: "file" | "directory" | "symlink";
  /** Of a file; 0 of what else there is. */
  size: number;
}

export interface Scan {
  /** Directories before what they hold. */
  changed: Changed[];
  /** What is known, and not there any more. What a directory held before itself. */
  removed: string[];
  /** What no volume can keep: sockets, FIFOs, devices, names that are no text, paths that are too long. */
  unkept: string[];
  /** Directories that could not be looked into: nothing is known of what is in there. */
  unread: string[];
  durationMs: number;
}

/** Looks for what has changed in a mount since it was last known. Throws where there is too much of it. */
export async function scan(tree: Tree, baseline: Baseline, maxPathBytes: number): Promise<Scan> {
  const begin = performance.now();
  const found: Scan = { changed: [], removed: [], unkept: [], unread: [], durationMs: 0 };
  const seen = new Set<Known>();
  /** A name may be listed twice: one that is renamed meanwhile, or two that are no UTF-8 and read the same. */
  const changed = new Map<string, Changed>();
  const slices = new Slices();
  let count = 0;
  const see = (path: string, stat: BigIntStats): void => {
    const type = typeOf(stat);
    if (type === undefined || Buffer.byteLength(path) > maxPathBytes) {
      found.unkept.push(path);
      return;
    }
    const known = baseline.get(path);
    if (known) seen.add(known);
    if (known?.stamp !== stampOf(stat))
      changed.set(path, { path, type, size: type === "file" ? Number(stat.size) : 0 });
  };
  const open: string[] = [""];
  for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
    const directory = openOr(tree, folder, found.unread);
    if (!directory) continue;
    try {
      for (let entry = directory.entries.readSync(); entry; entry = directory.entries.readSync()) {
        if (slices.isOver) await slices.next();
        const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
        const stat = lstatAt(directory.place(entry.name));
        if (++count > MAX_FILES) throw new Error(`it holds more than ${MAX_FILES} files`);
        if (stat) see(path, stat);
        else if (entry.name.includes("\uFFFD")) found.unkept.push(path);
        if (stat?.isDirectory() && Buffer.byteLength(path) <= maxPathBytes) open.push(path);
      }
    } finally {
      directory.close();
    }
  }
  found.changed = [...changed.values()];
  if (seen.size < baseline.size) found.removed = await gone(tree, baseline, seen, found.unread);
  found.durationMs = performance.now() - begin;
  return found;
}

export function typeOf(stat: BigIntStats): Changed["type"] | undefined {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  return stat.isSymbolicLink() ? "symlink" : undefined;
}

function openOr(tree: Tree, folder: string, unread: string[]): ReturnType<Tree["openDirectory"]> {
  try {
    return tree.openDirectory(folder);
  } catch (error) {
    // That would pass for a folder that nobody can ever look into, and be lost.
    if (isExhausted(error)) throw error;
    unread.push(folder);
    return undefined;
  }
}

/** What was not seen may have been moved to and fro meanwhile: each is looked at once more. */
async function gone(
  tree: Tree,
  baseline: Baseline,
  seen: ReadonlySet<Known>,
  unread: readonly string[],
): Promise<string[]> {
  const paths: string[] = [];
  const slices = new Slices();
  for (const [path, known] of baseline.all()) {
    if (seen.has(known)) continue;
    if (unread.some((folder) => folder === "" || path.startsWith(`${folder}/`))) continue;
    if (slices.isOver) await slices.next();
    const stat = tree.stat(path);
    if (!stat || typeOf(stat) === undefined) paths.push(path);
  }
  tree.letGo();
  return paths.toSorted().toReversed();
}
