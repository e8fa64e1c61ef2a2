import { setFlagsFromString } from "node:v8";

/** The Node whose V8 has the flag. */
const NODE_WITH_FLAG = "24.";

/**
 * Lets the garbage collector judge buffers and objects by one limit. By itself this V8 looks through all objects after every 64 MiB of
 * buffers, however soon those are free again: half of what a large upload costs this daemon. What it holds at most grows by some 50 MiB.
 */
export function collectBuffersWithHeap(): void {
  if (process.versions.node.startsWith(NODE_WITH_FLAG))
    setFlagsFromString("--external-memory-accounted-in-global-limit");
}
