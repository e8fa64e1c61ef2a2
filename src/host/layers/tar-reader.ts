import { Refusal } from "./script.ts";
import { BLOCK, MAX_RECORDS_BYTES, XATTR_KEY, xattrName, type Entry } from "./tar-header.ts";
import type { TarInput } from "./tar-input.ts";

export interface ReadEntry extends Entry {
  xattrs: Map<string, Buffer>;
  /** Of a file whose holes are not in the archive: its size with them. */
  sparseSize: number | undefined;
}

const NS = 1_000_000_000n;
/** Far beyond every year that a filesystem knows, and what 64 bits hold. */
const MAX_SECONDS = 1n << 40n;
const GNU_LONG_NAME = "L";
const GNU_LONG_LINK = "K";
const EXTENDED = "x";
const GLOBAL = "g";
/** Old names for regular files. */
const OTHER_FILES = new Set(["\0", "7"]);
const SPARSE_KEY = "GNU.sparse.";

/** The next entry with everything that headers say of it; its bytes follow in `input`. Undefined: the end. */
export function readEntry(input: TarInput): ReadEntry | undefined {
  let records = new Map<string, Buffer>();
  for (;;) {
    const block = input.read(BLOCK);
    if (block === undefined) throw new Refusal("the layer ends too early");
    if (block.every((byte) => byte === 0)) {
      if (records.size > 0) throw new Refusal("the layer ends too early");
      return undefined;
    }
    checkSum(block);
    const type = block.toString("latin1", 156, 157);
    const size = number(block, 124, 12);
    if (type === EXTENDED) records = new Map([...records, ...readRecords(readMeta(input, size))]);
    else if (type === GLOBAL) readMeta(input, size);
    else if (type === GNU_LONG_NAME) records.set("path", upToNul(readMeta(input, size)));
    else if (type === GNU_LONG_LINK) records.set("linkpath", upToNul(readMeta(input, size)));
    else return entryOf(block, type, size, records);
  }
}

function entryOf(block: Buffer, type: string, size: number, records: Map<string, Buffer>): ReadEntry {
  const text = (key: string) => records.get(key)?.toString("latin1");
  const integer = (key: string, otherwise: number) => {
    const given = text(key);
    return given === undefined ? otherwise : parseInteger(given, key);
  };
  const isUstar = block.toString("latin1", 257, 263) === "ustar\0";
  const prefix = isUstar ? field(block, 345, 155) : "";
  const plainName = prefix === "" ? field(block, 0, 100) : `${prefix}/${field(block, 0, 100)}`;
  const mtime = text("mtime");
  return {
    name: text(`${SPARSE_KEY}name`) ?? text("path") ?? plainName,
    type: OTHER_FILES.has(type) ? "0" : type,
    mode: number(block, 100, 8) & 0o7777,
    uid: integer("uid", number(block, 108, 8)),
    gid: integer("gid", number(block, 116, 8)),
    size: integer("size", size),
    mtimeNs: mtime === undefined ? BigInt(signed(block, 136, 12)) * NS : parseSeconds(mtime),
    linkName: text("linkpath") ?? field(block, 157, 100),
    xattrs: new Map(
      [...records].filter(([key]) => key.startsWith(XATTR_KEY)).map(([key, value]) => [xattrName(key), value]),
    ),
    sparseSize: sparseSizeOf(records, text),
  };
}

function sparseSizeOf(records: Map<string, Buffer>, text: (key: string) => string | undefined): number | undefined {
  if (![...records.keys()].some((key) => key.startsWith(SPARSE_KEY))) return undefined;
  if (text(`${SPARSE_KEY}major`) !== "1" || text(`${SPARSE_KEY}minor`) !== "0")
    throw new Refusal("the layer has a sparse file in a format other than 1.0");
  return parseInteger(text(`${SPARSE_KEY}realsize`) ?? "", "GNU.sparse.realsize");
}

function readMeta(input: TarInput, size: number): Buffer {
  if (size > MAX_RECORDS_BYTES) throw new Refusal(`the layer has an entry with ${size} bytes of attributes`);
  const body = input.need(size);
  input.skipPadding(size);
  return body;
}

function readRecords(body: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(0x20, at);
    const length = space === -1 ? 0 : parseInteger(body.toString("latin1", at, space), "length");
    const equals = body.indexOf(0x3d, space + 1);
    const end = at + length;
    if (length === 0 || end > body.length || equals === -1 || equals >= end || body[end - 1] !== 0x0a)
      throw new Refusal("the layer has a broken PAX record");
    records.set(body.toString("latin1", space + 1, equals), body.subarray(equals + 1, end - 1));
    at = end;
  }
  return records;
}

function checkSum(block: Buffer): void {
  let sum = 8 * 0x20;
  for (const [index, byte] of block.entries()) if (index < 148 || index >= 156) sum += byte;
  if (sum !== number(block, 148, 8)) throw new Refusal("this is no tar archive, or a damaged one");
}

function number(block: Buffer, at: number, length: number): number {
  const value = signed(block, at, length);
  if (value < 0) throw new Refusal("the layer has a header with a negative number");
  return value;
}

/** Octal digits or, as GNU tar has it for what is too large, the bytes of the number itself. */
function signed(block: Buffer, at: number, length: number): number {
  if ((block[at]! & 0x80) !== 0) {
    const value = BigInt.asIntN(length * 8 - 1, BigInt(`0x${block.toString("hex", at, at + length)}`));
    return safe(Number(value), "a number");
  }
  const text = field(block, at, length).trim();
  if (!/^[0-7]*$/.test(text)) throw new Refusal("the layer has a header with a broken number");
  return safe(Number.parseInt(text || "0", 8), "a number");
}

function field(block: Buffer, at: number, length: number): string {
  return upToNul(block.subarray(at, at + length)).toString("latin1");
}

function upToNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

function parseInteger(text: string, what: string): number {
  if (!/^[0-9]{1,16}$/.test(text)) throw new Refusal(`the layer has an entry whose ${what} is no number`);
  return safe(Number(text), what);
}

function safe(value: number, what: string): number {
  if (!Number.isSafeInteger(value)) throw new Refusal(`the layer has an entry with ${what} out of range`);
  return value;
}

function parseSeconds(text: string): bigint {
  const [, sign, whole, fraction = ""] = /^(-?)([0-9]{1,20})(?:\.([0-9]*))?$/.exec(text) ?? [];
  if (whole === undefined) throw new Refusal("the layer has an entry whose mtime is no number");
  const seconds = BigInt(whole);
  if (seconds > MAX_SECONDS) throw new Refusal("the layer has an entry whose mtime is out of range");
  const ns = seconds * NS + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
  return sign === "-" ? -ns : ns;
}
