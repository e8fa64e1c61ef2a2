import { SMALL_CHUNK_BYTES } from "../../process/log-reader.ts";
import type { LogSource } from "../../process/output-log.ts";
import { SEGMENT_BYTES, SegmentReader } from "./segments.ts";

const LARGE_READ_BYTES = 256 * 1024;

/** The files of one stream, for one of its readers. Large reads go into memory that the next one uses again. */
export class SegmentSource implements LogSource {
  readonly #segments: SegmentReader;
  #large: Buffer | undefined;

  constructor(base: string) {
    this.#segments = new SegmentReader(base);
  }

  read(offset: number, available: number): Buffer {
    const size = Math.min(available, LARGE_READ_BYTES, SEGMENT_BYTES - (offset % SEGMENT_BYTES));
    const into = size <= SMALL_CHUNK_BYTES ? Buffer.allocUnsafe(size) : this.#memory().subarray(0, size);
    return into.subarray(0, this.#segments.read(offset, into));
  }

  close(): void {
    this.#segments.close();
  }

  #memory(): Buffer {
    this.#large ??= Buffer.allocUnsafeSlow(LARGE_READ_BYTES);
    return this.#large;
  }
}
