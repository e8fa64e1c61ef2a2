import { statfs } from "node:fs/promises";
import { withTimeLimit } from "../time-limit.ts";

const BYTES_PER_MIB = 1_048_576;
const FRESH_MS = 10_000;
/** A filesystem that hangs, as one over a network may, holds up no report. */
const LIMIT_MS = 2_000;

/** MiB. `free`: what is left for those who are not root. */
export interface DiskRoom {
  total: number;
  free: number;
}

/** How much room the filesystem of a folder has, looked up at most every ten seconds. */
export class Disk {
  readonly #folder: string;
  #room: DiskRoom | undefined;
  #at = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** As it was when it was last known; undefined where it never was. Never rejects. */
  async room(): Promise<DiskRoom | undefined> {
    if (Date.now() < this.#at + FRESH_MS) return this.#room;
    this.#at = Date.now();
    const late = () => new Error("late");
    const stat = await withTimeLimit(statfs(this.#folder), LIMIT_MS, late).catch(() => undefined);
    if (stat) {
      const mib = (blocks: number) => Math.floor((blocks * stat.bsize) / BYTES_PER_MIB);
      this.#room = { total: mib(stat.blocks), free: mib(stat.bavail) };
    }
    return this.#room;
  }
}
