import type { Launcher } from "./launcher.ts";
import type { LaunchedProcess } from "./process.ts";

/** The process of a slot that an earlier daemon left, if it did: see `Container.adopt`. Takes it out of those that are left. */
export async function adoptLeft(
  launcher: Launcher,
  left: Set<string>,
  slot: string,
  handle: string | undefined,
): Promise<LaunchedProcess | "unstarted" | undefined> {
  const isLeft = left.delete(slot);
  if (handle) return isLeft ? launcher.adoptSlot(slot, Number(handle)) : undefined;
  // Without a handle it did not get so far as to be written down as started.
  return (isLeft && (await launcher.adoptTaken(slot))) || "unstarted";
}
