import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";

/** After so long the control plane will not ask any more. */
const WAITED_MS = 7 * 86_400_000;

/**
 * The snapshots that were kept at a deadline and that the control plane has not asked for yet: until it does it may know nothing of
 * them, and would take them for what is to be removed. One file each, so that the next daemon knows them, too.
 */
export class UnaskedImages {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    for (const imageId of readdirSync(dir))
      if (statSync(`${dir}/${imageId}`).mtimeMs < Date.now() - WAITED_MS) this.asked(imageId);
  }

  add(imageId: string): void {
    writeFileSync(`${this.#dir}/${imageId}`, "");
  }

  asked(imageId: string): void {
    rmSync(`${this.#dir}/${imageId}`, { force: true });
  }

  /** Those of the images that may be told of. */
  without(imageIds: string[]): string[] {
    const unasked = new Set(readdirSync(this.#dir));
    return imageIds.filter((imageId) => !unasked.has(imageId));
  }
}
