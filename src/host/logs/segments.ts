import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, rmSync, writeSync } from "node:fs";
import { MAX_INLINE_OUTPUT_BYTES } from "../../contract/process.ts";

/**
 * A stream of bytes kept as files of one size, `<base>.0`, `<base>.1` and so on: where a byte lies follows from its
 * offset, how many there are from the last file's size, so that nothing else has to survive. The oldest go as files. The
 * first one is what answers carry inline.
 */
export const SEGMENT_BYTES = MAX_INLINE_OUTPUT_BYTES;

export const segmentOf = (offset: number): number => Math.floor(offset / SEGMENT_BYTES);

export const segmentPath = (base: string, index: number): string => `${base}.${index}`;

/** How much a stream holds by the files that are there: `names` are those behind `<base>.`. */
export function measure(base: string, names: string[]): { length: number; oldestSegment: number } {
  const indices = names
    .map(Number)
    .filter(Number.isInteger)
    .toSorted((a, b) => a - b);
  const last = indices.at(-1);
  if (last === undefined) return { length: 0, oldestSegment: 0 };
  const fd = openSync(segmentPath(base, last), "r");
  try {
    // The first file stays behind when others before the window go.
    let oldestSegment = last;
    while (indices.includes(oldestSegment - 1)) oldestSegment--;
    return { length: last * SEGMENT_BYTES + fstatSync(fd).size, oldestSegment };
  } finally {
    closeSync(fd);
  }
}

/** The segments that lie in a folder: their numbers, by the stream. */
export function segmentsIn(folder: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const name of readdirSync(folder)) {
    const [, stream, index] = /^(.+\.(?:out|err))\.(\d+)$/.exec(name) ?? [];
    if (stream !== undefined) found.set(stream, [...(found.get(stream) ?? []), index!]);
  }
  return found;
}

export function removeSegment(base: string, index: number): void {
  rmSync(segmentPath(base, index), { force: true });
}

/** Appends to the files of one stream. */
export class SegmentWriter {
  readonly #base: string;
  #fd: number | undefined;
  #index = -1;

  constructor(base: string) {
    this.#base = base;
  }

  /** The file that the byte at this offset goes to, made when it is not there. */
  fileAt(offset: number): number {
    const index = segmentOf(offset);
    if (this.#fd !== undefined && index === this.#index) return this.#fd;
    this.close();
    this.#index = index;
    // Not for appending: `splice` refuses such files.
    this.#fd = openSync(segmentPath(this.#base, index), constants.O_CREAT | constants.O_WRONLY, 0o600);
    return this.#fd;
  }

  /** Writes at the offset, over as many files as it takes. */
  write(bytes: Buffer, offset: number): void {
    for (let done = 0; done < bytes.length;) {
      const at = offset + done;
      const room = SEGMENT_BYTES - (at % SEGMENT_BYTES);
      const length = Math.min(room, bytes.length - done);
      done += writeSync(this.fileAt(at), bytes, done, length, at % SEGMENT_BYTES);
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** Reads from the files of one stream, at any offset that is there. */
export class SegmentReader {
  readonly #base: string;
  #fd: number | undefined;
  #index = -1;

  constructor(base: string) {
    this.#base = base;
  }

  /** Fills the buffer from the offset, to the end of its file at most; the answer is how much it was. */
  read(offset: number, into: Buffer): number {
    const index = segmentOf(offset);
    if (index !== this.#index) {
      this.close();
      this.#fd = openSync(segmentPath(this.#base, index), "r");
      this.#index = index;
    }
    return readSync(this.#fd!, into, 0, into.length, offset % SEGMENT_BYTES);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#index = -1;
  }
}

/** The first bytes of the stream, at most so many. */
export function readHead(base: string, size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  const reader = new SegmentReader(base);
  try {
    return bytes.subarray(0, reader.read(0, bytes));
  } finally {
    reader.close();
  }
}
