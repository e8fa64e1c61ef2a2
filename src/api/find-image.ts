import { ImageCatalog, type ImageRow } from "../catalog/images.ts";
import { ApiError } from "../contract/errors.ts";
import { parseRegistryReference, snapshotsOf, SNAPSHOTS_REPOSITORY } from "../contract/registry.ts";
import type { BackendName } from "../contract/sandbox.ts";
import { openRegistry } from "../registry/client.ts";
import type { ImagePlace } from "../sandbox/rpc.ts";
import type { Env } from "./env.ts";

/** An image of the deployment's own. */
export interface FoundImage {
  backend: BackendName;
  place: ImagePlace;
}

/**
 * The snapshot `im-…`, or what was pushed as `<environment>/<name>:<tag>`, as it is now; undefined for an image of anywhere else.
 * Throws `image_not_found`, and `image_not_ready` for one that is still being made or has failed.
 */
export async function findImage(
  env: Env,
  environment: string,
  image: string | undefined,
): Promise<FoundImage | undefined> {
  if (image === undefined) return undefined;
  if (image.startsWith("im-")) return findSnapshot(env, environment, image);
  if (!image.startsWith(`${environment}/`)) return undefined;
  const parsed = parseRegistryReference(environment, image);
  const found = parsed && (await openRegistry(env, environment).resolve(parsed.repository, parsed.reference));
  if (!found) throw new ApiError("image_not_found", { detail: `The registry has no ${image}.` });
  if (parsed.repository === snapshotsOf(environment)) {
    const detail = `Name a snapshot by its id, not by its reference in \`${SNAPSHOTS_REPOSITORY}\`.`;
    throw new ApiError("invalid_request", { detail, errors: [{ path: "image", message: "must be the id `im-…`" }] });
  }
  const source = { repository: parsed.repository, digest: found.digest };
  return { backend: "docker", place: { source, runtime: found.isHostBased ? "embedded" : "docker" } };
}

async function findSnapshot(env: Env, environment: string, imageId: string): Promise<FoundImage> {
  const row = await new ImageCatalog(env.DB).find(environment, imageId, Date.now());
  if (!row) throw new ApiError("image_not_found", { detail: `There is no image ${imageId}.` });
  if (row.status === "pending")
    throw new ApiError("image_not_ready", { detail: `The image ${imageId} is still being made.`, retryAfter: 1 });
  if (row.status === "failed")
    throw new ApiError("image_not_ready", { detail: `The image ${imageId} could not be made: ${row.error}` });
  return { backend: row.backend, place: placeOf(row) };
}

function placeOf({ environment, hostId, snapshotId, digest, runtime }: ImageRow): ImagePlace {
  return {
    ...(hostId !== null && { hostId }),
    ...(snapshotId !== null && { snapshotId }),
    ...(digest !== null && { source: { repository: snapshotsOf(environment), digest } }),
    ...(runtime !== null && { runtime }),
  };
}
