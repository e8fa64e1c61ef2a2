import { readSync, writeSync } from "node:fs";

const CHUNK_BYTES = 1_048_576;

/** The bytes of an archive, written to a descriptor in large pieces. */
export class TarOutput {
  readonly #fd: number;
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #length = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      const taken = bytes.copy(this.#chunk, this.#length, at);
      at += taken;
      this.#length += taken;
      if (this.#length === CHUNK_BYTES) this.flush();
    }
  }

  /** Throws where the file has not that many bytes: the header before them has said so. */
  copyFrom(fd: number, offset: number, length: number): void {
    for (let done = 0; done < length;) {
      const room = Math.min(CHUNK_BYTES - this.#length, length - done);
      const count = readSync(fd, this.#chunk, this.#length, room, offset + done);
      if (count === 0) throw new Error("A file has become shorter while it was read.");
      done += count;
      this.#length += count;
      if (this.#length === CHUNK_BYTES) this.flush();
    }
  }

  flush(): void {
    for (let at = 0; at < this.#length;) at += writeSync(this.#fd, this.#chunk, at, this.#length - at);
    this.#length = 0;
  }
}
