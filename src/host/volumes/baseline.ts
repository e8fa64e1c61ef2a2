import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { z } from "zod";
import { VolumeEntrySchema, type VolumeEntry } from "../../contract/volume-sync.ts";

/** An entry that is there. */
export type PresentEntry = Exclude<VolumeEntry, { type: "removed" }>;

/** What was last known to be committed at a path, and by what it is known again here: see `stamp.ts`. */
export interface Known {
  entry: PresentEntry;
  stamp: string;
}

/** What becomes known of a path; without an entry, that nothing is there. */
export interface Learned {
  path: string;
  known: Known | undefined;
}

const LineSchema = z.union([
  z.strictObject({ path: z.string(), entry: VolumeEntrySchema.optional(), stamp: z.string().optional() }),
  z.strictObject({ base: z.int(), version: z.int() }),
]);

/** Lines that count no more, beyond which the file is written anew. */
const MIN_STALE_LINES = 10_000;
const WRITE_AT_ONCE = 2_000;

/**
 * What of a volume is in a mount, by path: in memory, and on disk for the next run of this daemon. The file has a line for each
 * thing learned, and is written anew when most of them do not count any more.
 */
export class Baseline {
  readonly #path: string;
  readonly #known = new Map<string, Known>();
  #lines = 0;
  /** Whether the file has lines that are no good, or lacks some. */
  #isTorn = false;
  /** The version above which changes are unknown here. */
  base = 0;
  /** What the volume was at when it was last heard of. */
  version = 0;

  private constructor(path: string) {
    this.#path = path;
  }

  static open(path: string): Baseline {
    const baseline = new Baseline(path);
    if (existsSync(path)) baseline.#read(readFileSync(path, "utf8"));
    return baseline;
  }

  get(path: string): Known | undefined {
    return this.#known.get(path);
  }

  get size(): number {
    return this.#known.size;
  }

  all(): IterableIterator<[string, Known]> {
    return this.#known.entries();
  }

  /** Learns it for good. */
  async learn(learned: readonly Learned[], { base = this.base, version = this.version } = {}): Promise<void> {
    for (const { path, known } of learned) this.#set(path, known);
    const isMoved = base !== this.base || version !== this.version;
    this.base = base;
    this.version = Math.max(version, this.version);
    if (learned.length === 0 && !isMoved) return;
    try {
      if (this.#isTorn || this.#lines > MIN_STALE_LINES + 2 * this.#known.size) await this.#rewrite();
      else await this.#write("a", learned);
    } catch (error) {
      // Known as long as this daemon runs; the next time all of it is written.
      this.#isTorn = true;
      console.error("sandbar host: what is known of a volume cannot be written down:", String(error));
    }
  }

  #set(path: string, known: Known | undefined): void {
    if (known) this.#known.set(path, known);
    else this.#known.delete(path);
  }

  #read(text: string): void {
    for (const line of text.split("\n")) {
      if (line === "") continue;
      this.#lines++;
      try {
        const read = LineSchema.parse(JSON.parse(line));
        if ("base" in read) [this.base, this.version] = [read.base, read.version];
        else this.#set(read.path, knownOf(read));
      } catch {
        // Cut off: what it was about is looked at anew.
        this.#isTorn = true;
      }
    }
  }

  async #rewrite(): Promise<void> {
    this.#lines = 0;
    const path = `${this.#path}.new`;
    const learned = [...this.#known].map(([name, known]) => ({ path: name, known }));
    await this.#write("w", learned, path);
    renameSync(path, this.#path);
    this.#isTorn = false;
  }

  async #write(flags: "a" | "w", learned: readonly Learned[], path = this.#path): Promise<void> {
    const file = openSync(path, flags, 0o600);
    try {
      await writeLines(file, learned);
      writeFileSync(file, `${JSON.stringify({ base: this.base, version: this.version })}\n`);
      fsyncSync(file);
      this.#lines += learned.length + 1;
    } finally {
      closeSync(file);
    }
  }
}

/** A line for each. Others have their turn between many. */
export async function writeLines(file: number, learned: readonly Learned[]): Promise<void> {
  for (let at = 0; at < learned.length; at += WRITE_AT_ONCE) {
    const lines = learned.slice(at, at + WRITE_AT_ONCE).map(({ path, known }) => JSON.stringify({ path, ...known }));
    writeFileSync(file, `${lines.join("\n")}\n`);
    if (at + WRITE_AT_ONCE < learned.length) await setImmediate();
  }
}

/** What {@link writeLines} wrote; throws of what it did not. */
export function readLine(line: string): Learned {
  const read = LineSchema.parse(JSON.parse(line));
  if (!("path" in read)) throw new Error("no path");
  return { path: read.path, known: knownOf(read) };
}

function knownOf({ entry, stamp }: { entry?: VolumeEntry | undefined; stamp?: string | undefined }): Known | undefined {
  return entry && entry.type !== "removed" ? { entry, stamp: stamp ?? "" } : undefined;
}
