import { rm } from "node:fs/promises";
import { AS_ROOT, isRoot, run } from "../linux/programs.ts";

/** Removes a folder that a sandbox could write to, and nobody is in any more: whatever modes it gave to what is in there. */
export async function removeTree(folder: string): Promise<void> {
  if (isRoot) await rm(folder, { recursive: true, force: true });
  else await run([...AS_ROOT, "rm", "-rf", "--", folder]);
}
