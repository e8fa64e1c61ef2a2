import { OPAQUE_ENTRY, WHITEOUT_PREFIX } from "./overlay-marks.ts";
import { printable, Refusal } from "./script.ts";

/** Where an entry of a layer goes, as names from the destination; all are latin1 strings. */
export interface Target {
  tree: string;
  /** Of the directory that holds it, from the destination on. */
  parent: string[];
  /** Undefined for the root of a tree. */
  own: string | undefined;
}

export type Meaning = { kind: "entry" | "whiteout" | "opaque"; target: Target };

const ROOT_TREE = "root";
/** Mounted over in every sandbox: what a layer had there would be hidden, or keep the sandbox from starting. */
const RESERVED = new Set(["dev", "proc", ".sandbar"]);
const MAX_NAME_BYTES = 4096;

/** What an entry means, by its name. Throws a Refusal for a name that means nothing good. */
export function meaningOf(name: string, isDirectory: boolean, trees: string[]): Meaning {
  const names = split(name, isDirectory);
  const own = names.at(-1);
  if (own === undefined || !own.startsWith(WHITEOUT_PREFIX))
    return { kind: "entry", target: placeOf(names, isDirectory, trees) };
  if (isDirectory) throw bad(name, "is a directory with the name of a mark");
  if (own === OPAQUE_ENTRY) {
    const target = placeOf(names.slice(0, -1), true, trees);
    if (target.own === undefined) throw bad(name, "hides the root of the sandbox");
    return { kind: "opaque", target };
  }
  const gone = own.slice(WHITEOUT_PREFIX.length);
  if (["", ".", ".."].includes(gone) || gone.startsWith(WHITEOUT_PREFIX)) throw bad(name, "deletes nothing");
  const target = placeOf([...names.slice(0, -1), gone], false, trees);
  return { kind: "whiteout", target };
}

/** What a hard link leads to. */
export function linkTarget(name: string, trees: string[]): Target {
  const names = split(name, false);
  if (names.at(-1)?.startsWith(WHITEOUT_PREFIX) === true) throw bad(name, "is a mark, and no file");
  return placeOf(names, false, trees);
}

function split(name: string, isDirectory: boolean): string[] {
  if (name.length > MAX_NAME_BYTES) throw bad(name, "is too long");
  if (name === "" || name.includes("\0")) throw bad(name, "is no name");
  if (name.startsWith("/")) throw bad(name, "is absolute");
  if (!isDirectory && name.endsWith("/")) throw bad(name, "has the name of a directory");
  const names = name.split("/").filter((each) => each !== "" && each !== ".");
  if (names.includes("..")) throw bad(name, "leads upwards");
  if (names.slice(0, -1).some((each) => each.startsWith(WHITEOUT_PREFIX))) throw bad(name, "lies below a mark");
  return names;
}

function placeOf(names: string[], isDirectory: boolean, trees: string[]): Target {
  const [top] = names;
  const path = names.join("/");
  if (top !== undefined && RESERVED.has(top) && !(names.length === 1 && isDirectory))
    throw bad(path, "is where the sandbox's own mounts are");
  const isTree = top !== undefined && top !== ROOT_TREE && trees.includes(top);
  const all = isTree ? names : [ROOT_TREE, ...names];
  if (all.length === 1) {
    if (!isDirectory) throw bad(path, "has to be a directory");
    return { tree: all[0]!, parent: all, own: undefined };
  }
  return { tree: all[0]!, parent: all.slice(0, -1), own: all.at(-1)! };
}

function bad(name: string, what: string): Refusal {
  return new Refusal(`the layer's entry ${printable(name)} ${what}`);
}
