import {
  MAX_ENTRIES_A_PART,
  MAX_HASHES_A_CALL,
  type ChunkPlace,
  type VolumeEntry,
} from "../../contract/volume-sync.ts";
import type { SyncClient } from "./client.ts";

/** A part ends before its entries are longer than this, or with its first: half of what a call takes. */
const MAX_PART_BYTES = 4 * 1024 * 1024;
const MAX_PACKS = 100;

/** What a commit is made of, sent in parts as it comes. */
export class CommitParts {
  readonly #client: SyncClient;
  readonly #commitId: string;
  #entries: VolumeEntry[] = [];
  #bytes = 0;
  #packs = 0;
  #places: ChunkPlace[] = [];
  #count = 0;
  #sending: Promise<void> = Promise.resolve();

  constructor(client: SyncClient, commitId: string) {
    this.#client = client;
    this.#commitId = commitId;
  }

  get count(): number {
    return this.#count;
  }

  async add(entry: VolumeEntry): Promise<void> {
    const bytes = Buffer.byteLength(JSON.stringify(entry));
    if (this.#entries.length === MAX_ENTRIES_A_PART || (this.#bytes > 0 && this.#bytes + bytes > MAX_PART_BYTES))
      await this.flush();
    this.#entries.push(entry);
    this.#bytes += bytes;
  }

  /** Of one pack, which is there. */
  async addPlaces(places: readonly ChunkPlace[]): Promise<void> {
    if (this.#places.length + places.length > MAX_HASHES_A_CALL || this.#packs === MAX_PACKS) await this.flush();
    this.#places.push(...places);
    this.#packs++;
  }

  /** Sends what there is. */
  flush(): Promise<void> {
    const part = { entries: this.#entries, chunks: this.#places };
    if (part.entries.length === 0 && part.chunks.length === 0) return this.#sending;
    const number = this.#count++;
    this.#entries = [];
    this.#bytes = 0;
    this.#places = [];
    this.#packs = 0;
    this.#sending = this.#sending.then(() => this.#client.putPart(this.#commitId, number, part));
    // Whoever flushes next hears of it.
    this.#sending.catch(() => undefined);
    return this.#sending;
  }
}
