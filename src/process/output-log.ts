import type { Holds } from "./holds.ts";
import type { LogReader } from "./log-reader.ts";

/** One reader's way to the bytes of a log. */
export interface LogSource {
  /**
   * The first of the bytes from the offset, at least one and as many as are had at once. `available`: how many are there to be
   * read, more than none. Bytes of more than `SMALL_CHUNK_BYTES` are good until the next call: their memory may be used again.
   */
  read(offset: number, available: number): Uint8Array;
  /** Lets go of what it holds open. Nothing is read after that. */
  close(): void;
}

/** One output of a process as it is kept: bytes addressed by their offset from the very first, the oldest of which go. */
export interface ReadableLog {
  /** Bytes written so far, also those no longer kept. */
  readonly length: number;
  /** The first byte behind which nothing is missing. */
  readonly oldestOffset: number;
  /** Nothing more comes. */
  readonly hasEnded: boolean;
  /** Whom the process waits for. */
  readonly holds: Holds;
  /** Throws `output_expired` where the byte at the offset is no longer kept. */
  requireKept(offset: number): void;
  /** Calls at every byte more, and at the end, until the answer is called. */
  onChange(listener: () => void): () => void;
  /** A reader has come, gone on or gone: the process may, too. */
  readerMoved(): void;
  /** For one reader, which closes it. */
  open(): LogSource;
}

/** A log as those see it who do not write it. Any number of readers, each at its own offset. */
export interface OutputLog extends ReadableLog {
  /** A reader from the offset: to the end with `follow`, else to what is there now. Close it. Throws `output_expired`. */
  read(offset: number, follow: boolean): LogReader;
  /** The first bytes of the stream, for answers that carry output inline, and whether there are more. */
  first(): { bytes: Uint8Array; isTruncated: boolean };
}
