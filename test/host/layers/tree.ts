import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readSync,
  readdirSync,
  readlinkSync,
  type BigIntStats,
} from "node:fs";
import { dataSegments } from "../../../src/host/layers/file-calls.ts";
import { getXattr, listXattrs } from "../../../src/host/linux/xattr.ts";
import { Mutator } from "./mutator.ts";
import type { Random } from "./random.ts";

const MAX_READ_BYTES = 500_000;

/**
 * Everything that a copy of a tree has to bring back: by path (a latin1 string, "" for the root), all that lstat says
 * but for times of access and numbers of inodes, the hash of what a file holds, where its holes are, its attributes,
 * and which other names it has.
 */
export function describeTree(directory: string): Map<string, string> {
  const described = new Map<string, string>();
  const groups = new Map<string, string>();
  const visit = (path: string) => {
    const full = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path, "latin1")]);
    const stat = lstatSync(full, { bigint: true });
    described.set(path, describe(full, path, stat, groups));
    if (!stat.isDirectory()) return;
    const names = readdirSync(full, { encoding: "buffer" }).sort(Buffer.compare);
    for (const name of names) visit((path === "" ? "" : `${path}/`) + name.toString("latin1"));
  };
  visit("");
  return described;
}

/** Fills a directory with so many entries of every kind, as the numbers decide. */
export function makeTree(directory: string, random: Random, entries: number): void {
  const mutator = new Mutator(directory, random);
  mutator.createDeep();
  while (mutator.made < entries) mutator.create();
}

/** Changes a tree in so many ways, as the numbers decide. */
export function changeTree(directory: string, random: Random, changes: number): void {
  const mutator = new Mutator(directory, random);
  mutator.find();
  for (let done = 0; done < changes; done++) mutator.change();
}

function describe(full: Buffer, path: string, stat: BigIntStats, groups: Map<string, string>): string {
  const parts = [`mode=${stat.mode.toString(8)}`, `owner=${stat.uid}:${stat.gid}`, `mtime=${stat.mtimeNs}`];
  if (!stat.isDirectory()) {
    const id = `${stat.dev}:${stat.ino}`;
    if (!groups.has(id)) groups.set(id, path);
    parts.push(`links=${stat.nlink}`, `with=${groups.get(id)}`, `size=${stat.size}`, `device=${stat.rdev}`);
  }
  if (stat.isSymbolicLink()) parts.push(`to=${readlinkSync(full, { encoding: "buffer" }).toString("latin1")}`);
  for (const name of listXattrs(full)) parts.push(`${name}=${getXattr(full, name)?.toString("base64")}`);
  if (stat.isFile()) parts.push(...content(full, Number(stat.size)));
  return parts.join(" ");
}

function content(full: Buffer, size: number): string[] {
  const fd = openSync(full, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const segments = dataSegments(fd, size);
    const hash = createHash("sha256");
    // All of a file, so that holes are read as well, unless that took too long.
    for (const { offset, length } of size > MAX_READ_BYTES ? segments : [{ offset: 0, length: size }]) {
      const bytes = Buffer.alloc(length);
      readSync(fd, bytes, 0, length, offset);
      hash.update(bytes);
    }
    return [`sha256=${hash.digest("hex")}`, `data=${JSON.stringify(segments)}`];
  } finally {
    closeSync(fd);
  }
}

/** What differs, in words; empty where nothing does. */
export function differences(expected: Map<string, string>, found: Map<string, string>): string[] {
  const wrong: string[] = [];
  for (const [path, description] of expected)
    if (found.get(path) !== description) wrong.push(`${path}: ${description}\n  became ${found.get(path)}`);
  for (const path of found.keys()) if (!expected.has(path)) wrong.push(`${path}: should not be`);
  return wrong;
}
