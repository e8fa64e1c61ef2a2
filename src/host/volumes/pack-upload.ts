import { randomBytes } from "node:crypto";
import { MAX_HASHES_A_CALL, MAX_PACK_BYTES, type ChunkPlace } from "../../contract/volume-sync.ts";
import type { ChunkCache } from "./cache.ts";
import type { SyncClient } from "./client.ts";
import { Slices } from "./slices.ts";

/** A chunk that a commit needs: with its bytes, or how to read them again, since the volume most likely has them. */
export interface OfferedChunk {
  hash: string;
  length: number;
  bytes?: Buffer;
  /** Undefined where they are not those any more. */
  reread: () => Promise<Buffer | undefined>;
}

/** A chunk that is not what it was said to be. */
export class ChunkChanged extends Error {
  override readonly name = "ChunkChanged";
}

/** Brings the chunks of a commit to where no pack has them, many in a pack. While one pack is sent the next is gathered; no more are in memory. */
export class PackUpload {
  readonly #client: SyncClient;
  readonly #cache: ChunkCache;
  readonly #stored: (places: ChunkPlace[]) => Promise<void>;
  readonly #handled = new Set<string>();
  #gathered: OfferedChunk[] = [];
  #bytes = 0;
  #sending: Promise<void> = Promise.resolve();

  /** `stored`: is told where chunks lie that no pack had. */
  constructor(client: SyncClient, cache: ChunkCache, stored: (places: ChunkPlace[]) => Promise<void>) {
    this.#client = client;
    this.#cache = cache;
    this.#stored = stored;
  }

  async offer(chunk: OfferedChunk): Promise<void> {
    if (this.#handled.has(chunk.hash)) return;
    this.#handled.add(chunk.hash);
    if (this.#bytes + (chunk.bytes?.length ?? 0) > MAX_PACK_BYTES || this.#gathered.length === MAX_HASHES_A_CALL)
      await this.#flush();
    this.#gathered.push(chunk);
    this.#bytes += chunk.bytes?.length ?? 0;
  }

  /** Done when everything is there. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#sending;
  }

  async #flush(): Promise<void> {
    await this.#sending;
    const chunks = this.#gathered;
    this.#gathered = [];
    this.#bytes = 0;
    if (chunks.length === 0) return;
    this.#sending = this.#send(chunks);
    // Whoever offers next, or ends it, hears of it.
    this.#sending.catch(() => undefined);
  }

  async #send(chunks: readonly OfferedChunk[]): Promise<void> {
    const missing = new Set(await this.#client.missing(chunks.map(({ hash }) => hash)));
    const slices = new Slices();
    let pack = new Pack();
    for (const chunk of chunks) {
      if (slices.isOver) await slices.next();
      if (!missing.has(chunk.hash)) continue;
      const bytes = chunk.bytes ?? (await chunk.reread());
      if (!bytes) throw new ChunkChanged(`the chunk ${chunk.hash} is not there any more`);
      if (pack.length + bytes.length > MAX_PACK_BYTES) {
        await this.#put(pack);
        pack = new Pack();
      }
      pack.add(chunk.hash, bytes);
    }
    await this.#put(pack);
  }

  async #put({ id, pieces, places }: Pack): Promise<void> {
    if (pieces.length === 0) return;
    await this.#client.putPack(id, pieces);
    this.#cache.put(places.map(({ hash }, index) => ({ hash, bytes: pieces[index]! })));
    await this.#stored(places);
  }
}

class Pack {
  readonly id = randomBytes(16).toString("hex");
  readonly pieces: Buffer[] = [];
  readonly places: ChunkPlace[] = [];
  length = 0;

  add(hash: string, bytes: Buffer): void {
    this.places.push({ hash, pack: this.id, offset: this.length, length: bytes.length });
    this.pieces.push(bytes);
    this.length += bytes.length;
  }
}
