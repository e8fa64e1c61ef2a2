import { z } from "zod";
import { StartFiles, type Start } from "./start-files.ts";

const MovedSchema = z.object({ revision: z.int(), deadline_at: z.int() });

/**
 * The deadlines that were moved after the start, on disk: a container itself remembers only the one that it was made with.
 * Times are milliseconds since 1970.
 */
export class Deadlines {
  readonly #files: StartFiles<z.infer<typeof MovedSchema>>;

  constructor(folder: string) {
    this.#files = new StartFiles(folder, MovedSchema);
  }

  /** When the container is to end; undefined where that was never moved. */
  movedTo(start: Start): number | undefined {
    return this.#files.read(start)?.deadline_at;
  }

  /** Keeps a deadline; false for one that a newer one has overtaken. */
  move(start: Start, revision: number, deadlineAt: number): boolean {
    const before = this.#files.read(start);
    if (before && before.revision > revision) return false;
    this.#files.write(start, { revision, deadline_at: deadlineAt });
    return true;
  }

  forget(start: Start): void {
    this.#files.remove(start);
  }

  /** Forgets all but those of these starts. */
  sweep(live: readonly Start[]): void {
    this.#files.sweep(live);
  }
}
