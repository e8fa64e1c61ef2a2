import { createReadStream } from "node:fs";
import { Readable } from "node:stream";

const BLOCK = 512;
/** What eleven octal digits can say. */
const MAX_OCTAL_SIZE = 0o77777777777;

/** A file of this machine as an entry. */
export interface FileEntry {
  path: string;
  size: number;
}

/** A tar archive of small text files, and of large ones that are read while it is sent. */
export function tarArchive(files: Record<string, string | FileEntry>): Readable {
  return Readable.from(blocksOf(files), { objectMode: false });
}

async function* blocksOf(files: Record<string, string | FileEntry>): AsyncGenerator<Buffer> {
  for (const [name, content] of Object.entries(files)) {
    const text = typeof content === "string" ? Buffer.from(content) : undefined;
    const size = text?.length ?? (content as FileEntry).size;
    yield header(name, size);
    if (text) yield text;
    else yield* createReadStream((content as FileEntry).path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>;
    yield Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
  }
  yield Buffer.alloc(2 * BLOCK);
}

/** A ustar header of a regular file, mode 0644, owner 0. */
function header(name: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  block.write(name, 0, 100);
  block.write(`${octal(0o644, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100);
  if (size <= MAX_OCTAL_SIZE) {
    block.write(`${octal(size, 11)}\0`, 124);
  } else {
    // GNU's way to say more: binary, with the first bit set.
    block.writeBigUInt64BE(BigInt(size), 128);
    block[124] = 0x80;
  }
  block.write(`${octal(0, 11)}\0`, 136);
  // The checksum counts its own field as spaces.
  block.write("        ", 148);
  block.write("0", 156);
  block.write("ustar\x0000", 257, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)}\0 `, 148);
  return block;
}
