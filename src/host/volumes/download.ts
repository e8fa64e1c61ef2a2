import { closeSync, openSync, writeSync } from "node:fs";
import { MAX_HASHES_A_CALL, VOLUME_CHUNK_BYTES, type ChunkPlace } from "../../contract/volume-sync.ts";
import { hashOf, type Chunk, type ChunkCache } from "./cache.ts";
import { SyncError, type SyncClient } from "./client.ts";
import { Slices } from "./slices.ts";

/** Where a chunk is to be written: in files that no sandbox sees. */
export interface Target {
  file: string;
  offset: number;
}

/** What a download costs to leave out less than another call. */
const MAX_GAP_BYTES = 128 * 1024;
const MAX_RANGE_BYTES = 32 * VOLUME_CHUNK_BYTES;
const PARALLEL = 4;
const KEEP_AT_ONCE_BYTES = 4 * VOLUME_CHUNK_BYTES;
/** What it takes to get nowhere, until it is given up. */
const MAX_BARREN_ATTEMPTS = 4;

/** Downloads chunks, each once, to where they belong and into the cache. What lies close together comes by one call. */
export async function download(
  targets: ReadonlyMap<string, Target[]>,
  { client, cache }: { client: SyncClient; cache: ChunkCache },
): Promise<void> {
  const hashes = [...targets.keys()];
  for (let at = 0; at < hashes.length; at += MAX_HASHES_A_CALL) {
    const asked = hashes.slice(at, at + MAX_HASHES_A_CALL);
    const located = new Map((await client.locate(asked)).map((place) => [place.hash, place]));
    const places = asked.map((hash) => located.get(hash));
    if (places.includes(undefined)) throw new SyncError("the volume lacks a part of a file", 500);
    const ranges = rangesOf(places as ChunkPlace[]);
    const slices = new Slices();
    const next = async (): Promise<void> => {
      for (let range = ranges.pop(); range; range = ranges.pop()) {
        await readRange(client, range, async (hash, bytes) => {
          if (slices.isOver) await slices.next();
          for (const { file, offset } of targets.get(hash)!) writeAt(file, bytes, offset);
          kept.push({ hash, bytes });
          keptBytes += bytes.length;
          if (keptBytes >= KEEP_AT_ONCE_BYTES) keep();
        });
      }
    };
    let kept: Chunk[] = [];
    let keptBytes = 0;
    const keep = () => {
      cache.put(kept);
      kept = [];
      keptBytes = 0;
    };
    await Promise.all(Array.from({ length: PARALLEL }, next)).finally(keep);
  }
}

/** Places of one pack, by offset, not far from each other. */
function rangesOf(places: readonly ChunkPlace[]): ChunkPlace[][] {
  const sorted = places.toSorted((a, b) => (a.pack === b.pack ? a.offset - b.offset : a.pack < b.pack ? -1 : 1));
  const ranges: ChunkPlace[][] = [];
  for (const place of sorted) {
    const range = ranges.at(-1);
    const last = range?.at(-1);
    const isNear =
      last?.pack === place.pack &&
      place.offset - (last.offset + last.length) <= MAX_GAP_BYTES &&
      place.offset + place.length - range![0]!.offset <= MAX_RANGE_BYTES;
    if (isNear) range!.push(place);
    else ranges.push([place]);
  }
  return ranges;
}

/** One call, or as many as it takes where connections break off. */
async function readRange(
  client: SyncClient,
  places: readonly ChunkPlace[],
  taken: (hash: string, bytes: Buffer) => Promise<void>,
): Promise<void> {
  let done = 0;
  for (let barren = 0; done < places.length;) {
    const before = done;
    try {
      for await (const [hash, bytes] of chunksIn(client, places.slice(done))) {
        await taken(hash, bytes);
        done++;
      }
    } catch (error) {
      barren = done > before ? 0 : barren + 1;
      if (!(error instanceof SyncError) || !error.isPassing || barren === MAX_BARREN_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, barren * 200));
    }
  }
}

async function* chunksIn(client: SyncClient, places: readonly ChunkPlace[]): AsyncGenerator<[string, Buffer]> {
  const first = places[0]!;
  const end = Math.max(...places.map(({ offset, length }) => offset + length));
  let at = first.offset;
  let next = 0;
  let place = places[next];
  let chunk = Buffer.allocUnsafe(first.length);
  const isWhole = () => place !== undefined && at >= place.offset + place.length;
  const whole = (): [string, Buffer] => {
    const { hash } = place!;
    if (hashOf(chunk) !== hash) throw new SyncError(`the chunk ${hash} is damaged`, 500);
    return [hash, chunk];
  };
  for await (const bytes of client.readPack(first.pack, first.offset, end - first.offset)) {
    for (let taken = 0; place && taken < bytes.length;) {
      const skipped = Math.min(Math.max(0, place.offset - at), bytes.length - taken);
      taken += skipped;
      at += skipped;
      const some = bytes.subarray(taken, taken + Math.max(0, place.offset + place.length - at));
      chunk.set(some, Math.max(0, at - place.offset));
      taken += some.length;
      at += some.length;
      if (!isWhole()) continue;
      yield whole();
      place = places[++next];
      if (place) chunk = Buffer.allocUnsafe(place.length);
    }
  }
  if (place) throw new SyncError("the control plane breaks off", 0);
}

export function writeAt(file: string, bytes: Uint8Array, offset: number): void {
  const fd = openSync(file, "r+");
  try {
    writeAll(fd, bytes, offset);
  } finally {
    closeSync(fd);
  }
}

export function writeAll(fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}
