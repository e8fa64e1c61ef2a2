/** Finds the end of a body in the bytes that pass. */
export interface BodyEnd {
  /** So many bytes are of the body whatever they are; after them it has to look again. */
  readonly left: number;
  /** True once the body is there to its end. */
  readonly isWhole: boolean;
  /** Looks at bytes as they come: how many of them are of the body; undefined where they are of none. */
  look(bytes: Buffer): number | undefined;
  /** So many of what was left have passed unseen. */
  skip(bytes: number): void;
}

/** Of a body of so many bytes; without a length it comes in chunks. */
export const bodyEnd = (length: number | undefined): BodyEnd =>
  length === undefined ? new ChunksEnd() : new LengthEnd(length);

class LengthEnd implements BodyEnd {
  left: number;

  constructor(length: number) {
    this.left = length;
  }

  get isWhole(): boolean {
    return this.left === 0;
  }

  look(bytes: Buffer): number {
    const taken = Math.min(bytes.length, this.left);
    this.left -= taken;
    return taken;
  }

  skip(bytes: number): void {
    this.left -= bytes;
  }
}

const LINE_END = "\r\n";
const MAX_HEAD_LENGTH = 12;

/** Of chunks as we send them ourselves: without extensions, and with nothing behind the last but an empty line. */
class ChunksEnd implements BodyEnd {
  /** Of a chunk's data, and of the line end behind it. */
  left = 0;
  isWhole = false;
  /** What has come of the head of a chunk. */
  #head = "";
  #isLast = false;

  look(bytes: Buffer): number | undefined {
    let at = 0;
    while (at < bytes.length && !this.isWhole) {
      if (this.left > 0) {
        const taken = Math.min(this.left, bytes.length - at);
        this.skip(taken);
        at += taken;
        continue;
      }
      this.#head += String.fromCharCode(bytes[at]!);
      at += 1;
      if (this.#head.length > MAX_HEAD_LENGTH || (this.#head.endsWith(LINE_END) && !this.#begin())) return undefined;
    }
    return at;
  }

  skip(bytes: number): void {
    this.left -= bytes;
    if (this.left === 0 && this.#isLast) this.isWhole = true;
  }

  #begin(): boolean {
    const size = Number.parseInt(this.#head, 16);
    this.#head = "";
    this.#isLast = size === 0;
    this.left = size + LINE_END.length;
    return size >= 0;
  }
}
