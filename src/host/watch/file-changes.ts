import { IN } from "../linux/inotify.ts";
import type { Change } from "./change-order.ts";
import type { Teller } from "./teller.ts";

/** How long a file may be away while another is put in its place. */
const REPLACE_MS = 100;

export interface FileOptions {
  /** Of the directory that holds it. */
  wd: number;
  /** Of the file itself, where the directory does not tell of it. */
  ownWd: number | undefined;
  name: string;
  teller: Teller;
  path: string;
}

/** Takes what the kernel tells of a directory for what happened to one file in it. One that was replaced is one that was modified. */
export class FileChanges {
  readonly #options: FileOptions;
  #goneAt: number | undefined;

  constructor(options: FileOptions) {
    this.#options = options;
  }

  get dueAt(): number {
    return this.#goneAt === undefined ? Infinity : this.#goneAt + REPLACE_MS;
  }

  /** Whether it has been away for too long to come back. */
  isGone(now: number): boolean {
    return now >= this.dueAt;
  }

  handle({ event, movedTo }: Change, now: number): void {
    for (const { wd, mask, name } of movedTo ? [event, movedTo] : [event]) {
      const { teller, path, ownWd } = this.#options;
      if (wd === ownWd && name === "" && mask & (IN.MODIFY | IN.ATTRIB)) teller.modify(path, now);
      if (wd !== this.#options.wd || name !== this.#options.name) continue;
      if (mask & (IN.DELETE | IN.MOVED_FROM)) this.#goneAt = now;
      else {
        this.#goneAt = undefined;
        teller.modify(path, now);
      }
    }
  }
}
