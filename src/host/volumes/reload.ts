import type { VolumeEntry } from "../../contract/volume-sync.ts";
import { Apply } from "./apply.ts";
import { SyncError } from "./client.ts";
import type { MountParts } from "./mount-parts.ts";

interface Changes {
  changes: Map<string, VolumeEntry>;
  version: number;
}

/** Brings a mount to what is committed. What was written here has been committed before. Throws `SyncError`. */
export async function reload(mount: MountParts, isFresh = false): Promise<{ changedFiles: number }> {
  const { baseline } = mount;
  const { changes, version } = await fetchChanges(mount).catch((error: unknown) => {
    if (error instanceof SyncError && error.status === 409 && baseline.base > 0) return fetchAll(mount);
    throw error;
  });
  if (changes.size === 0) {
    await baseline.learn([], { base: version, version });
    return { changedFiles: 0 };
  }
  const { changedFiles, learned } = await new Apply(mount, isFresh).run(changes);
  await baseline.learn(learned, { base: version, version });
  return { changedFiles };
}

/** All that changed since, by path within the mount; of what changed twice meanwhile, the last. */
async function fetchChanges({ client, baseline, subPath }: MountParts, since = baseline.base): Promise<Changes> {
  const changes = new Map<string, VolumeEntry>();
  let after: string | undefined;
  for (;;) {
    const page = await client.changes(since, after, subPath);
    for (const entry of page.entries) {
      const path = inMount(entry.path, subPath);
      if (path !== undefined) changes.set(path, { ...entry, path });
    }
    if (page.after === undefined) return { changes, version: page.version };
    after = page.after;
  }
}

/** The same where the volume does not know any more what was removed since: what it does not name is not there. */
async function fetchAll(mount: MountParts): Promise<Changes> {
  const { changes, version } = await fetchChanges(mount, 0);
  for (const [path] of mount.baseline.all()) if (!changes.has(path)) changes.set(path, { path, type: "removed" });
  return { changes, version };
}

/** Undefined of what is not in there. */
function inMount(path: string, subPath: string | undefined): string | undefined {
  if (subPath === undefined) return path;
  return path.startsWith(`${subPath}/`) ? path.slice(subPath.length + 1) : undefined;
}
