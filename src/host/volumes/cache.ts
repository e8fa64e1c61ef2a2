import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";

/** Many small chunks share a file, and go together: a file for each would cost more than to get it again. */
const BUNDLE_BYTES = 4 * 1024 * 1024;
const BUNDLE = /^([0-9a-f]{16})\.chunks$/;
/** A bundle's first line is its list, as long as this at most. */
const MAX_LIST_BYTES = 1024 * 1024;
const MAX_CHUNKS_A_BUNDLE = 4000;

export const hashOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export interface Chunk {
  hash: string;
  bytes: Uint8Array;
}

interface Bundle {
  size: number;
  hashes: string[];
}

interface Place {
  bundle: string;
  offset: number;
  length: number;
}

/**
 * Chunks of volumes that this machine has had, by their hash, for all of its sandboxes: up to so many bytes, those longest unused go
 * first. No sandbox ever sees a file of it, and what is read is checked: what a crash of the machine has damaged counts as not there.
 */
export class ChunkCache {
  readonly #folder: string;
  readonly #maxBytes: number;
  /** Those longest unused first. */
  readonly #bundles = new Map<string, Bundle>();
  readonly #places = new Map<string, Place>();
  #bytes = 0;
  #newest: string | undefined;
  /** The bundle that was read last stays open: the next chunk is most likely in it, too. */
  #open: { bundle: string; fd: number } | undefined;

  constructor(folder: string, maxBytes: number) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#recall();
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Undefined where it is not there. */
  get(hash: string): Buffer | undefined {
    const place = this.#places.get(hash);
    if (!place) return undefined;
    const bytes = this.#read(place);
    if (bytes && hashOf(bytes) === hash) return bytes;
    this.#drop(place.bundle);
    return undefined;
  }

  /** Keeps them, where there is room. The bytes are those of their hashes. */
  put(chunks: readonly Chunk[]): void {
    let gathered: Chunk[] = [];
    let length = 0;
    for (const chunk of chunks) {
      if (this.#places.has(chunk.hash)) continue;
      if (length + chunk.bytes.length > BUNDLE_BYTES || gathered.length === MAX_CHUNKS_A_BUNDLE) {
        this.#write(gathered);
        gathered = [];
        length = 0;
      }
      gathered.push(chunk);
      length += chunk.bytes.length;
    }
    if (gathered.length > 0) this.#write(gathered);
  }

  close(): void {
    if (this.#open) closeSync(this.#open.fd);
    this.#open = undefined;
  }

  #write(chunks: readonly Chunk[]): void {
    const list = Buffer.from(`${JSON.stringify(chunks.map(({ hash, bytes }) => [hash, bytes.length]))}\n`);
    const size = chunks.reduce((sum, { bytes }) => sum + bytes.length, list.length);
    if (size > this.#maxBytes) return;
    for (const oldest of this.#bundles.keys()) {
      if (this.#bytes + size <= this.#maxBytes) break;
      this.#drop(oldest);
    }
    const name = randomBytes(8).toString("hex");
    const draft = `${this.#folder}/${name}.new`;
    try {
      writeFileSync(draft, Buffer.concat([list, ...chunks.map(({ bytes }) => bytes)]), { mode: 0o600, flag: "wx" });
      renameSync(draft, this.#pathOf(name));
    } catch {
      // The disk is full: the next one downloads it again.
      rmSync(draft, { force: true });
      return;
    }
    this.#add(
      name,
      size,
      list.length,
      chunks.map(({ hash, bytes }) => [hash, bytes.length]),
    );
  }

  #add(bundle: string, size: number, listLength: number, list: readonly [string, number][]): void {
    let offset = listLength;
    for (const [hash, length] of list) {
      this.#places.set(hash, { bundle, offset, length });
      offset += length;
    }
    this.#bundles.set(bundle, { size, hashes: list.map(([hash]) => hash) });
    this.#bytes += size;
    this.#newest = bundle;
  }

  #read({ bundle, offset, length }: Place): Buffer | undefined {
    try {
      if (this.#open?.bundle !== bundle) {
        this.close();
        this.#open = { bundle, fd: openSync(this.#pathOf(bundle), "r") };
      }
      if (this.#newest !== bundle) this.#use(bundle);
      const bytes = Buffer.allocUnsafeSlow(length);
      return readSync(this.#open.fd, bytes, 0, length, offset) === length ? bytes : undefined;
    } catch {
      return undefined;
    }
  }

  #use(bundle: string): void {
    const now = Date.now() / 1000;
    utimesSync(this.#pathOf(bundle), now, now);
    const used = this.#bundles.get(bundle)!;
    this.#bundles.delete(bundle);
    this.#bundles.set(bundle, used);
    this.#newest = bundle;
  }

  #drop(bundle: string): void {
    if (this.#open?.bundle === bundle) this.close();
    rmSync(this.#pathOf(bundle), { force: true });
    const { size, hashes } = this.#bundles.get(bundle)!;
    for (const hash of hashes) if (this.#places.get(hash)?.bundle === bundle) this.#places.delete(hash);
    this.#bundles.delete(bundle);
    this.#bytes -= size;
  }

  /** What an earlier daemon kept, in the order of its last use. */
  #recall(): void {
    const found: { name: string; size: number; usedAt: number }[] = [];
    for (const file of readdirSync(this.#folder)) {
      const [, name] = BUNDLE.exec(file) ?? [];
      const stat = name && statSync(this.#pathOf(name), { throwIfNoEntry: false });
      if (name && stat) found.push({ name, size: stat.size, usedAt: stat.mtimeMs });
      else rmSync(`${this.#folder}/${file}`, { recursive: true, force: true });
    }
    for (const { name, size } of found.sort((a, b) => a.usedAt - b.usedAt)) {
      const list = readList(this.#pathOf(name));
      if (list) this.#add(name, size, list.length, list.chunks);
      else rmSync(this.#pathOf(name), { force: true });
    }
    for (const oldest of this.#bundles.keys()) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#drop(oldest);
    }
  }

  #pathOf(bundle: string): string {
    return `${this.#folder}/${bundle}.chunks`;
  }
}

/** What is in a bundle; undefined where that cannot be read. */
function readList(path: string): { length: number; chunks: [string, number][] } | undefined {
  const fd = openSync(path, "r");
  try {
    const head = Buffer.alloc(MAX_LIST_BYTES);
    const end = head.subarray(0, readSync(fd, head, 0, MAX_LIST_BYTES, 0)).indexOf("\n");
    return { length: end + 1, chunks: JSON.parse(head.toString("utf8", 0, end)) as [string, number][] };
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}
