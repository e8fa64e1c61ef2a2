import { ImageCatalog } from "../catalog/images.ts";
import { ApiError } from "../contract/errors.ts";
import { snapshotsOf } from "../contract/registry.ts";
import { dropImage } from "../placement/drop-image.ts";
import { openRegistry } from "../registry/client.ts";
import type { Env } from "./env.ts";

/**
 * Deletes a snapshot: from the registry, which keeps its layers for whoever pulls them just now, then from the catalog: cut off
 * between, it can be deleted again. The host that made it is told at once, others with their next reports.
 */
export async function deleteImage(env: Env, environment: string, imageId: string): Promise<void> {
  const images = new ImageCatalog(env.DB);
  const image = await images.find(environment, imageId, Date.now());
  if (!image) throw new ApiError("image_not_found");
  await openRegistry(env, environment).removeTag(snapshotsOf(environment), imageId);
  await images.forget(environment, [imageId]);
  await dropImage(env, image).catch((error: unknown) => console.error(`${imageId} stays on its host for now.`, error));
}
