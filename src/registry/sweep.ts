import { ImageCatalog } from "../catalog/images.ts";
import type { Parts } from "./parts.ts";

/** Expired images of one step. */
const IMAGES_AT_ONCE = 50;

/**
 * Removes what nobody needs any more. Every step may be repeated, and one that fails (the catalog, the bucket) leaves the others
 * to go on: it is its turn again at the next sweep.
 */
export async function sweep(parts: Parts, catalog: ImageCatalog): Promise<void> {
  await attempt("expired images", () => sweepImages(parts, catalog));
  const { manifests, blobs, uploads, garbage, grace, snapshots, transaction } = parts;
  const now = Date.now();
  transaction(() => manifests.sweep(snapshots, now - grace.keptMs));
  while (transaction(() => blobs.sweep(now)));
  transaction(() => uploads.sweep(now));
  await attempt("garbage", () => garbage.collect());
}

/** First the tag, then the catalog's row: what is forgotten there would not be found again. */
async function sweepImages({ environment, manifests, snapshots, transaction }: Parts, catalog: ImageCatalog) {
  for (;;) {
    const imageIds = await catalog.expired(environment, Date.now(), IMAGES_AT_ONCE);
    for (const imageId of imageIds) transaction(() => manifests.removeTag(snapshots, imageId));
    if (imageIds.length > 0) await catalog.forget(environment, imageIds);
    if (imageIds.length < IMAGES_AT_ONCE) return;
  }
}

async function attempt(what: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    console.error(`The registry's sweep of ${what} failed; the next one repeats it.`, error);
  }
}
