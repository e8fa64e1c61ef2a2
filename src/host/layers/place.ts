import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { changeDirectory } from "./file-calls.ts";

const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * The current directory of this process, moved within a tree by single names and never through a link: whatever a
 * sandbox or the author of a layer put there, no path leads out of the tree. Needs a process of its own. Names are
 * latin1 strings, byte for byte.
 */
export class Place {
  /** From the root of the tree to the current directory. */
  readonly #names: string[] = [];
  /** Which directory each of them is, so that one that is moved meanwhile is no way out either. */
  readonly #ids: string[] = [];

  constructor(root: Buffer) {
    this.#ids.push(moveTo(root));
  }

  /** Throws ENOTDIR or ELOOP for what is no directory. */
  enter(name: string): void {
    this.#ids.push(moveTo(Buffer.from(name, "latin1")));
    this.#names.push(name);
  }

  leave(): void {
    this.#ids.pop();
    this.#names.pop();
    if (moveTo(Buffer.from("..")) !== this.#ids.at(-1)) throw new Error("A directory was moved while it was read.");
  }

  goTo(names: string[]): void {
    let common = 0;
    while (common < this.#names.length && this.#names[common] === names[common]) common++;
    while (this.#names.length > common) this.leave();
    for (const name of names.slice(common)) this.enter(name);
  }
}

function moveTo(path: Buffer): string {
  const fd = openSync(path, FLAGS);
  try {
    changeDirectory(fd);
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return `${dev}:${ino}`;
  } finally {
    closeSync(fd);
  }
}
