import { z } from "zod";
import { ContainerExitSchema, type ContainerExit } from "../contract/host-protocol.ts";
import { StartFiles, type Start } from "./start-files.ts";

const EndSchema = z.object({ ended_at: z.int(), exit: ContainerExitSchema });

/** A container that is no more. Times are milliseconds since 1970. */
export interface KeptEnd extends Start {
  endedAt: number;
  exit: ContainerExit;
}

/** How containers ended, on disk: all that is left of one that was removed, until nobody asks for it any more. */
export class Ends {
  readonly #files: StartFiles<z.infer<typeof EndSchema>>;

  constructor(folder: string) {
    this.#files = new StartFiles(folder, EndSchema);
  }

  /** On a full disk it is known as long as this daemon runs. */
  keep(start: Start, exit: ContainerExit): void {
    try {
      this.#files.write(start, { ended_at: Date.now(), exit });
    } catch (error) {
      console.error(`sandbar host: how ${start.sandboxId} ended cannot be kept:`, String(error));
    }
  }

  forget(start: Start): void {
    this.#files.remove(start);
  }

  all(): KeptEnd[] {
    return this.#files.all().map(({ sandboxId, generation, content: { ended_at: endedAt, exit } }) => ({
      sandboxId,
      generation,
      endedAt,
      exit,
    }));
  }
}
