import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { z } from "zod";

const MovedSchema = z.object({ revision: z.int(), deadline_at: z.int() });

/** One start of a sandbox. */
interface Start {
  sandboxId: string;
  generation: number;
}

/**
 * The deadlines that were moved after the start, on disk: a container itself remembers only the one that it was made with.
 * Times are milliseconds since 1970.
 */
export class Deadlines {
  readonly #folder: string;

  /** `folder` is made when it is needed. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** When the container is to end; undefined where that was never moved. */
  movedTo(start: Start): number | undefined {
    return this.#read(start)?.deadline_at;
  }

  /** Keeps a deadline; false for one that a newer one has overtaken. */
  move(start: Start, revision: number, deadlineAt: number): boolean {
    const before = this.#read(start);
    if (before && before.revision > revision) return false;
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const path = this.#pathOf(start);
    writeFileSync(`${path}.new`, JSON.stringify({ revision, deadline_at: deadlineAt }), { flush: true });
    renameSync(`${path}.new`, path);
    return true;
  }

  forget(start: Start): void {
    rmSync(this.#pathOf(start), { force: true });
  }

  /** Forgets all but those of these starts. */
  sweep(live: readonly Start[]): void {
    const names = new Set(live.map(nameOf));
    for (const name of namesIn(this.#folder)) {
      if (!names.has(name)) rmSync(`${this.#folder}/${name}`, { force: true });
    }
  }

  #read(start: Start) {
    try {
      return MovedSchema.parse(JSON.parse(readFileSync(this.#pathOf(start), "utf8")));
    } catch {
      return undefined;
    }
  }

  #pathOf(start: Start): string {
    return `${this.#folder}/${nameOf(start)}`;
  }
}

const nameOf = ({ sandboxId, generation }: Start) => `${sandboxId}.${generation}`;

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
