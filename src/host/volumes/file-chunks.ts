import { closeSync, fstatSync, read, readSync, type BigIntStats } from "node:fs";
import { promisify } from "node:util";
import { VOLUME_CHUNK_BYTES } from "../../contract/volume-sync.ts";
import { hashOf } from "./cache.ts";
import { chunkCount, chunkLength } from "./entries.ts";
import { stampOf } from "./stamp.ts";
import type { Tree } from "./tree.ts";

const readAsync = promisify(read);
/** What is smaller is read at once: the turn of a thread takes longer. */
const SMALL_BYTES = 64 * 1024;

/** A file of a sandbox as it was read. */
export interface FileRead {
  /** As it was when its reading began. */
  stat: BigIntStats;
  /** Milliseconds since 1970. */
  lookedAt: number;
  /** What was read, all in all. */
  size: number;
  chunks: string[];
  /** Whether it changed meanwhile: what was read may be of no moment. */
  isTorn: boolean;
}

/** Reads a regular file chunk by chunk; undefined where there is none (any more). `taken` gets each chunk, and may keep its bytes. */
export async function readChunks(
  tree: Tree,
  path: string,
  taken: (hash: string, bytes: Buffer, index: number) => Promise<void> | void,
): Promise<FileRead | undefined> {
  const lookedAt = Date.now();
  const opened = tree.openFile(path);
  if (!opened) return undefined;
  const { fd, stat } = opened;
  try {
    const size = Number(stat.size);
    const result: FileRead = { stat, lookedAt, size: 0, chunks: [], isTorn: false };
    for (let index = 0; index < chunkCount(size) && !result.isTorn; index++) {
      const length = chunkLength(size, index);
      const bytes = await readAt(fd, index * VOLUME_CHUNK_BYTES, length);
      result.isTorn = bytes.length < length;
      if (bytes.length === 0) break;
      const hash = hashOf(bytes);
      result.chunks.push(hash);
      result.size += bytes.length;
      await taken(hash, bytes, index);
    }
    result.isTorn ||= stampOf(fstatSync(fd, { bigint: true })) !== stampOf(stat);
    return result;
  } finally {
    closeSync(fd);
  }
}

/** One chunk, where it is still the one of this hash. */
export async function readChunk(
  tree: Tree,
  path: string,
  index: number,
  length: number,
  hash: string,
): Promise<Buffer | undefined> {
  const opened = tree.openFile(path);
  if (!opened) return undefined;
  try {
    const bytes = await readAt(opened.fd, index * VOLUME_CHUNK_BYTES, length);
    return bytes.length === length && hashOf(bytes) === hash ? bytes : undefined;
  } finally {
    closeSync(opened.fd);
  }
}

/** So many bytes, or all that there are. */
async function readAt(fd: number, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const count =
      length <= SMALL_BYTES
        ? readSync(fd, bytes, done, length - done, offset + done)
        : (await readAsync(fd, bytes, done, length - done, offset + done)).bytesRead;
    if (count === 0) break;
    done += count;
  }
  return bytes.subarray(0, done);
}
