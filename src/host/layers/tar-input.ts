import { readSync, writeSync } from "node:fs";
import { Refusal } from "./script.ts";
import { BLOCK } from "./tar-header.ts";

const CHUNK_BYTES = 1_048_576;

/** The bytes of an archive, from a descriptor, in the order they come. */
export class TarInput {
  readonly #fd: number;
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #start = 0;
  #end = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The next `length` bytes, copied; undefined where the archive ends right here. */
  read(length: number): Buffer | undefined {
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      const part = this.#next(missing);
      if (part === undefined) {
        if (missing === length) return undefined;
        throw new Refusal("the layer ends too early");
      }
      parts.push(Buffer.from(part));
      missing -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** Like `read`, where an end is none of an archive's. */
  need(length: number): Buffer {
    if (length === 0) return Buffer.alloc(0);
    const bytes = this.read(length);
    if (bytes === undefined) throw new Refusal("the layer ends too early");
    return bytes;
  }

  copyTo(fd: number, offset: number, length: number): void {
    for (let done = 0; done < length;) {
      const part = this.#next(length - done);
      if (part === undefined) throw new Refusal("the layer ends too early");
      for (let written = 0; written < part.length;)
        written += writeSync(fd, part, written, part.length - written, offset + done + written);
      done += part.length;
    }
  }

  skipPadding(size: number): void {
    this.need((BLOCK - (size % BLOCK)) % BLOCK);
  }

  /** Reads on to the end, for the sake of who writes. */
  drain(): void {
    while (this.#next(CHUNK_BYTES) !== undefined);
  }

  #next(limit: number): Buffer | undefined {
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = readSync(this.#fd, this.#chunk, 0, CHUNK_BYTES, null);
      if (this.#end === 0) return undefined;
    }
    const end = Math.min(this.#end, this.#start + limit);
    const part = this.#chunk.subarray(this.#start, end);
    this.#start = end;
    return part;
  }
}
