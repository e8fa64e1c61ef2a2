import { ImageCatalog } from "../catalog/images.ts";
import { ApiError } from "../contract/errors.ts";
import { HOST_GRANT_LIFETIME_S, signGrant, signHostPull, snapshotsOf } from "../contract/registry.ts";
import type { SnapshotShelf } from "./snapshots.ts";
import type { GrantPull } from "./starter.ts";
import { openRegistry, type RegistryBinding } from "../registry/client.ts";

export interface ShelfEnv extends RegistryBinding {
  DB: D1Database;
  SIGNING_SECRET: string;
}

/** Where images are kept: what they are in the catalog, their bytes in the registry. */
export function imageShelf(env: ShelfEnv): SnapshotShelf & { grantPull: GrantPull } {
  const images = new ImageCatalog(env.DB);
  return {
    async add(row) {
      const kept = await images.add(row);
      // It is also what deletes the image once its time is over.
      await openRegistry(env, row.environment).arm();
      return kept;
    },
    settle: (imageId, outcome) => images.settle(imageId, outcome),
    find: (environment, imageId) => images.find(environment, imageId, Date.now()),
    discard: (environment, imageId) => openRegistry(env, environment).removeTag(snapshotsOf(environment), imageId),
    async target(environment, imageId) {
      const repository = snapshotsOf(environment);
      const grant = { access: "push" as const, environment, repository, tag: imageId };
      return { repository, tag: imageId, token: await signGrant(env.SIGNING_SECRET, grant, HOST_GRANT_LIFETIME_S) };
    },
    async stored(environment, imageId) {
      const found = await openRegistry(env, environment).resolve(snapshotsOf(environment), { tag: imageId });
      if (!found) throw new ApiError("snapshot_failed", { detail: "The registry has not got the image." });
      return { digest: found.digest, size: found.size, runtime: found.isHostBased ? "embedded" : "docker" };
    },
    grantPull: (environment, repository) => signHostPull(env.SIGNING_SECRET, environment, repository),
  };
}
