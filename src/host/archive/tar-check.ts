import { ApiError } from "../../contract/errors.ts";

const BLOCK = 512;
/** What names and attributes of one entry may take. */
const MAX_META_BYTES = 1_048_576;
const LONG_NAME = "L";
const EXTENDED = "x";
/** What describes other entries. */
const META = new Set(["L", "K", "x", "g"]);
const OLD_SPARSE = "S";

interface Meta {
  type: string;
  size: number;
  parts: Buffer[];
  /** That are still to come. */
  blocks: number;
}

/**
 * Reads along with a tar archive: whether it is one, comes to its end, and names nothing outside of where it is unpacked. Not all
 * programs that will unpack it look at that. A link in it may lead anywhere: who unpacks it is the sandbox's own user, in the sandbox.
 */
export class TarCheck {
  #block = Buffer.alloc(BLOCK);
  #filled = 0;
  /** Blocks of content that are passed over. */
  #skip = 0;
  /** Of the content that is read: names and attributes. */
  #meta: Meta | undefined;
  #isInSparseMap = false;
  #sparseSize = 0;
  #name: string | undefined;
  #size: number | undefined;
  #isAtEnd = false;

  /** Throws `invalid_request`. */
  push(part: Uint8Array): void {
    for (let at = 0; at < part.length && !this.#isAtEnd;) {
      if (this.#filled === 0 && this.#skip > 0) {
        const whole = Math.min(this.#skip, Math.floor((part.length - at) / BLOCK));
        this.#skip -= whole;
        at += whole * BLOCK;
        if (this.#skip === 0 || whole > 0) continue;
      }
      const taken = Math.min(BLOCK - this.#filled, part.length - at);
      this.#block.set(part.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled < BLOCK) continue;
      this.#filled = 0;
      if (this.#skip > 0) this.#skip--;
      else this.#take(this.#block);
    }
  }

  /** To be called behind the last part. Throws `invalid_request`. */
  end(): void {
    if (!this.#isAtEnd) throw refusal("The archive ends too early, or is none");
  }

  #take(block: Buffer): void {
    if (this.#meta) return this.#takeMeta(this.#meta, block);
    if (this.#isInSparseMap) {
      this.#isInSparseMap = block[504] !== 0;
      if (!this.#isInSparseMap) this.#skip = blocksOf(this.#sparseSize);
      return;
    }
    if (block.every((byte) => byte === 0)) {
      this.#isAtEnd = true;
      return;
    }
    this.#takeHeader(block);
  }

  #takeHeader(block: Buffer): void {
    checkSum(block);
    const type = block.toString("latin1", 156, 157);
    const size = sizeIn(block);
    if (META.has(type)) {
      if (size > MAX_META_BYTES) throw refusal("The archive has an entry with too long names");
      if (size > 0) this.#meta = { type, size, parts: [], blocks: blocksOf(size) };
      return;
    }
    checkName(this.#name ?? nameIn(block));
    this.#name = undefined;
    const length = isWithoutContent(type) ? 0 : (this.#size ?? size);
    this.#size = undefined;
    if (type === OLD_SPARSE && block[482] !== 0) {
      this.#isInSparseMap = true;
      this.#sparseSize = length;
    } else {
      this.#skip = blocksOf(length);
    }
  }

  #takeMeta(meta: Meta, block: Buffer): void {
    meta.parts.push(Buffer.from(block));
    if (--meta.blocks > 0) return;
    this.#meta = undefined;
    const content = Buffer.concat(meta.parts).subarray(0, meta.size);
    if (meta.type === LONG_NAME) this.#name = upToNul(content);
    if (meta.type !== EXTENDED) return;
    for (const [key, value] of recordsIn(content)) {
      if (key === "path" || key === "GNU.sparse.name") this.#name = value;
      if (key !== "size") continue;
      if (!/^\d{1,15}$/.test(value)) throw refusal("The archive has an entry of no size");
      this.#size = Number(value);
    }
  }
}

const refusal = (detail: string) => new ApiError("invalid_request", { detail: `${detail}.` });
const blocksOf = (size: number) => Math.ceil(size / BLOCK);
/** Links, devices, directories and FIFOs, whatever size they say they have. */
const isWithoutContent = (type: string) => /[1-6]/.test(type);

function upToNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString("latin1", 0, end < 0 ? bytes.length : end);
}

function nameIn(block: Buffer): string {
  const prefix = block.toString("latin1", 257, 263) === "ustar\0" ? upToNul(block.subarray(345, 500)) : "";
  const name = upToNul(block.subarray(0, 100));
  return prefix === "" ? name : `${prefix}/${name}`;
}

function checkName(name: string): void {
  if (name.startsWith("/") || name.split("/").includes("..")) {
    throw refusal("The archive has a name that leads out of the directory");
  }
}

function checkSum(block: Buffer): void {
  let sum = 8 * 0x20;
  for (let at = 0; at < BLOCK; at++) if (at < 148 || at >= 156) sum += block[at]!;
  if (sum !== octal(block, 148, 8))
    throw refusal("The body is no tar archive (a compressed one is not taken), or is damaged");
}

/** Digits or, as GNU's tar has it for what is too large, the bytes of the number itself. */
function sizeIn(block: Buffer): number {
  if ((block[124]! & 0x80) === 0) return octal(block, 124, 12);
  const size = Number(BigInt(`0x${block.toString("hex", 125, 136)}`));
  if (!Number.isSafeInteger(size) || block[124] !== 0x80) throw refusal("The archive has an entry of no size");
  return size;
}

function octal(block: Buffer, at: number, length: number): number {
  const text = upToNul(block.subarray(at, at + length)).trim();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : text === "" ? 0 : Number.NaN;
}

function* recordsIn(content: Buffer): Generator<[key: string, value: string]> {
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(0x20, at);
    const length = Number(content.toString("latin1", at, Math.max(at, space)));
    const equals = content.indexOf(0x3d, space);
    if (
      space < 0 ||
      !Number.isInteger(length) ||
      length < 1 ||
      at + length > content.length ||
      equals < 0 ||
      equals >= at + length
    ) {
      throw refusal("The archive has broken attributes");
    }
    yield [content.toString("latin1", space + 1, equals), content.toString("latin1", equals + 1, at + length - 1)];
    at += length;
  }
}
