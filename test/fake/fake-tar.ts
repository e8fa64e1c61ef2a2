import { ApiError } from "../../src/contract/errors.ts";
import type { FakeNode } from "./fake-files.ts";

const BLOCK = 512;
const TYPES = { file: "0", symlink: "2", directory: "5" } as const;

/** GNU's entries that hold what the next one has no room for, by the PAX records that would. */
const LONG_NAMES: Record<string, string> = { L: "path", K: "linkpath" };

/** A tar of these, in this order. */
export function packTar(entries: [string, FakeNode][]): Uint8Array<ArrayBuffer> {
  const parts = entries.flatMap(([name, node]) => {
    const content = node.type === "file" ? node.bytes : new Uint8Array(0);
    return [
      headerOf(node.type === "directory" ? `${name}/` : name, node),
      content,
      new Uint8Array(-content.length & 511),
    ];
  });
  return concat([...parts, new Uint8Array(2 * BLOCK)]);
}

/** What is in the tar. Throws `invalid_request` for what is none. */
export function unpackTar(tar: Uint8Array): [string, FakeNode][] {
  const entries: [string, FakeNode][] = [];
  let records = new Map<string, string>();
  for (let at = 0; ;) {
    const block = tar.subarray(at, at + BLOCK);
    if (block.length < BLOCK) throw noTar("ends too early");
    if (block.every((byte) => byte === 0)) return entries;
    if (sumOf(block) !== octal(block, 148, 8)) throw noTar("is no tar archive, or a damaged one");
    const type = field(block, 156, 1) || TYPES.file;
    const size = Number(records.get("size") ?? octal(block, 124, 12));
    const content = tar.slice(at + BLOCK, at + BLOCK + size);
    if (content.length < size) throw noTar("ends too early");
    at += BLOCK + size + (-size & (BLOCK - 1));
    if (type === "x" || type in LONG_NAMES) {
      for (const [key, value] of type === "x" ? recordsOf(content) : [[LONG_NAMES[type]!, upToNul(content)]])
        records.set(key, value);
      continue;
    }
    if (type === "g") continue;
    const prefix = field(block, 345, 155);
    const name = plainName(records.get("path") ?? `${prefix && `${prefix}/`}${field(block, 0, 100)}`);
    const owned = {
      mode: octal(block, 100, 8) & 0o7777,
      modifiedAt: Number(records.get("mtime") ?? octal(block, 136, 12)) * 1000,
    };
    const target = records.get("linkpath") ?? field(block, 157, 100);
    records = new Map();
    if (name === "") continue;
    if (type === TYPES.file) entries.push([name, { ...owned, type: "file", bytes: content }]);
    else if (type === TYPES.directory) entries.push([name, { ...owned, type: "directory" }]);
    else if (type === TYPES.symlink) entries.push([name, { ...owned, type: "symlink", target }]);
    else throw noTar(`holds an entry of the type ${JSON.stringify(type)}, which the fake does not know`);
  }
}

const noTar = (what: string) => new ApiError("invalid_request", { detail: `The body ${what}.` });

/** The name within the directory. Throws where it leads out of it. */
function plainName(name: string): string {
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw noTar("holds a name with `..`");
  return parts.join("/");
}

function headerOf(name: string, node: FakeNode): Uint8Array {
  const block = new Uint8Array(BLOCK);
  const write = (at: number, text: string) => block.set(new TextEncoder().encode(text), at);
  const cut = name.length <= 100 ? -1 : name.indexOf("/", name.length - 101);
  if (name.length > 100 && (cut < 1 || cut > 155)) throw new Error(`The fake's tar has no room for ${name}.`);
  write(0, name.slice(cut + 1));
  if (cut > 0) write(345, name.slice(0, cut));
  const number = (at: number, length: number, value: number) => write(at, value.toString(8).padStart(length - 1, "0"));
  number(100, 8, node.mode);
  number(108, 8, 0);
  number(116, 8, 0);
  number(124, 12, node.type === "file" ? node.bytes.length : 0);
  number(136, 12, Math.floor(node.modifiedAt / 1000));
  write(156, TYPES[node.type]);
  if (node.type === "symlink") write(157, node.target);
  write(257, "ustar\u000000root");
  write(297, "root");
  number(148, 7, sumOf(block));
  write(155, " ");
  return block;
}

/** Of the header, its own place as blanks. */
function sumOf(block: Uint8Array): number {
  return block.reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 0x20 : byte), 0);
}

function recordsOf(body: Uint8Array): Map<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < body.length;) {
    const length = Number.parseInt(text(body.subarray(at, at + 20)), 10);
    if (!(length > 0)) throw noTar("holds a broken record");
    const [, key, value] = /^\d+ ([^=]+)=(.*)\n$/s.exec(text(body.subarray(at, at + length))) ?? [];
    if (key === undefined) throw noTar("holds a broken record");
    records.set(key, value!);
    at += length;
  }
  return records;
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function upToNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return text(end === -1 ? bytes : bytes.subarray(0, end));
}

function field(block: Uint8Array, at: number, length: number): string {
  return upToNul(block.subarray(at, at + length));
}

const octal = (block: Uint8Array, at: number, length: number) =>
  Number.parseInt(field(block, at, length).trim() || "0", 8);

function concat(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
