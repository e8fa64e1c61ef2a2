/**
 * The headers of a tar archive: ustar blocks, with PAX records before them for what does not fit. Names and the keys of
 * records are latin1 strings, byte for byte.
 */
export const BLOCK = 512;
/** What Go's reader takes, and with it Docker's. */
export const MAX_RECORDS_BYTES = 1_048_576;
export const XATTR_KEY = "SCHILY.xattr.";

const NS = 1_000_000_000n;
const MAX_ID = 0o7777777;
const MAX_SIZE = 0o77777777777;
const NAME_BYTES = 100;

export const TYPES = {
  file: "0",
  link: "1",
  symlink: "2",
  character: "3",
  block: "4",
  directory: "5",
  fifo: "6",
  records: "x",
} as const;

export interface Entry {
  name: string;
  type: string;
  mode: number;
  uid: number;
  gid: number;
  /** Bytes that follow in the archive. */
  size: number;
  mtimeNs: bigint;
  linkName?: string;
  device?: { major: number; minor: number };
  records?: Map<string, Buffer>;
}

/** Throws RangeError where the records are too long for other readers. */
export function encodeEntry(entry: Entry): Buffer {
  const records = new Map<string, Buffer>();
  const add = (key: string, value: string) => records.set(key, Buffer.from(value, "latin1"));
  if (entry.name.length > NAME_BYTES) add("path", entry.name);
  if ((entry.linkName?.length ?? 0) > NAME_BYTES) add("linkpath", entry.linkName!);
  if (entry.uid > MAX_ID) add("uid", String(entry.uid));
  if (entry.gid > MAX_ID) add("gid", String(entry.gid));
  if (entry.size > MAX_SIZE) add("size", String(entry.size));
  if (entry.mtimeNs % NS !== 0n || entry.mtimeNs < 0n || entry.mtimeNs / NS > BigInt(MAX_SIZE))
    add("mtime", decimalSeconds(entry.mtimeNs));
  for (const [key, value] of entry.records ?? []) records.set(key, value);
  const header = encodeBlock(entry);
  if (records.size === 0) return header;
  const body = Buffer.concat([...records].sort(([a], [b]) => (a < b ? -1 : 1)).map(encodeRecord));
  if (body.length > MAX_RECORDS_BYTES) throw new RangeError(`${body.length} bytes of attributes`);
  const meta = { name: "PaxHeaders/record", type: TYPES.records, mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n };
  return Buffer.concat([encodeBlock({ ...meta, size: body.length }), body, padding(body.length), header]);
}

/** What fills the last block up. */
export function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

/** PAX has no way to write a `=` in a key; this one is GNU tar's. */
export function xattrKey(name: string): string {
  return XATTR_KEY + name.replaceAll("%", "%25").replaceAll("=", "%3D");
}

export function xattrName(key: string): string {
  return key.slice(XATTR_KEY.length).replaceAll("%3D", "=").replaceAll("%25", "%");
}

function encodeRecord([key, value]: [string, Buffer]): Buffer {
  const text = Buffer.from(` ${key}=`, "latin1");
  const rest = text.length + value.length + 1;
  let total = rest + String(rest).length;
  total = rest + String(total).length;
  return Buffer.concat([Buffer.from(String(total)), text, value, Buffer.from("\n")]);
}

function decimalSeconds(ns: bigint): string {
  const positive = ns < 0n ? -ns : ns;
  const fraction = (positive % NS).toString().padStart(9, "0").replace(/0+$/, "");
  return `${ns < 0n ? "-" : ""}${positive / NS}${fraction && `.${fraction}`}`;
}

function encodeBlock(entry: Entry): Buffer {
  const block = Buffer.alloc(BLOCK);
  const seconds = entry.mtimeNs < 0n ? 0 : Number(entry.mtimeNs / NS);
  const number = (value: number, max: number, at: number, length: number) =>
    block.write((value > max ? 0 : value).toString(8).padStart(length - 1, "0"), at, "latin1");
  block.write(entry.name.slice(0, NAME_BYTES), 0, "latin1");
  number(entry.mode, MAX_ID, 100, 8);
  number(entry.uid, MAX_ID, 108, 8);
  number(entry.gid, MAX_ID, 116, 8);
  number(entry.size, MAX_SIZE, 124, 12);
  number(seconds, MAX_SIZE, 136, 12);
  block.write(" ".repeat(8), 148, "latin1");
  block.write(entry.type, 156, "latin1");
  block.write((entry.linkName ?? "").slice(0, NAME_BYTES), 157, "latin1");
  block.write("ustar\u000000", 257, "latin1");
  number(entry.device?.major ?? 0, MAX_ID, 329, 8);
  number(entry.device?.minor ?? 0, MAX_ID, 337, 8);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}
