import type { Baseline } from "./baseline.ts";
import type { ChunkCache } from "./cache.ts";
import type { SyncClient } from "./client.ts";
import type { Pending } from "./pending.ts";
import type { Tree } from "./tree.ts";

/** What commits and reloads of one mount work with. */
export interface MountParts {
  readonly tree: Tree;
  readonly baseline: Baseline;
  readonly client: SyncClient;
  readonly cache: ChunkCache;
  /** Where files are put together before the sandbox sees them: on the same filesystem. */
  readonly incoming: string;
  /** Where the commit is kept that is to be finished. */
  readonly pendingPath: string;
  pending: Pending | undefined;
  /** The mount's root within the volume. */
  readonly subPath: string | undefined;
  /** A path of the mount, as one of the volume. */
  inVolume(path: string): string;
}
