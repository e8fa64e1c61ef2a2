import type { FakeNode } from "../fake/fake-files.ts";
import { packTar, unpackTar } from "../fake/fake-tar.ts";

/** What a tar holds, as far as a test looks. */
export interface TarEntry {
  /** Without a slash at its end. */
  name: string;
  type?: "file" | "directory" | "symlink";
  mode?: string;
  content?: string;
  target?: string;
}

const MODIFIED_AT = Date.UTC(2001, 8, 9);

/** A tar of these. */
export const tarOf = (entries: TarEntry[]) =>
  packTar(entries.map((entry): [string, FakeNode] => [entry.name, nodeOf(entry)]));

/** What this tar holds, without the directory that it is of, in the order of the names. */
export function entriesOf(tar: Uint8Array): TarEntry[] {
  return unpackTar(tar)
    .map(([name, node]) => entryOf(name, node))
    .toSorted((one, other) => (one.name < other.name ? -1 : 1));
}

function entryOf(name: string, node: FakeNode): TarEntry {
  const mode = node.mode.toString(8);
  if (node.type === "symlink") return { name, type: node.type, target: node.target };
  if (node.type === "directory") return { name, type: node.type, mode };
  return { name, type: node.type, mode, content: new TextDecoder().decode(node.bytes) };
}

function nodeOf({ type = "file", mode = "644", content = "", target = "" }: TarEntry): FakeNode {
  const owned = { mode: Number.parseInt(mode, 8), modifiedAt: MODIFIED_AT };
  if (type === "symlink") return { ...owned, type, target };
  return type === "file" ? { ...owned, type, bytes: new TextEncoder().encode(content) } : { ...owned, type };
}
