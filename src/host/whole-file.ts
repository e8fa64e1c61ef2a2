import { renameSync, rmSync, writeFileSync } from "node:fs";

/** Writes a small file of this daemon's, over the one that is there: all of it or, when the disk is full, an error. It is on the disk then. */
export function writeWhole(path: string, content: string): void {
  // What a write that was cut off has left may be anybody's to read.
  rmSync(`${path}.new`, { force: true });
  writeFileSync(`${path}.new`, content, { flush: true, mode: 0o600 });
  renameSync(`${path}.new`, path);
}
