import { VolumeCatalog } from "../catalog/volumes.ts";
import { openVolume } from "../volumes/client.ts";
import type { Env } from "./env.ts";
import { findVolume, volumeNotFound } from "./find-volumes.ts";
import { inUse } from "./in-use.ts";

const DONE_WITHIN_MS = 600_000;

/**
 * Deletes a volume, unless a live sandbox uses it: first the catalog's row, which no sandbox finds from then on, then what is in it.
 * Cut off between, its object finds out by itself that the row has gone.
 */
export async function deleteVolume(env: Env, environment: string, volumeId: string): Promise<void> {
  await findVolume(env, environment, volumeId);
  const volume = openVolume(env, volumeId);
  await volume.confirmLater({ environment }, DONE_WITHIN_MS);
  const removal = await new VolumeCatalog(env.DB).remove(environment, volumeId);
  if (removal.kind === "missing") throw volumeNotFound(volumeId);
  if (removal.kind === "in_use") throw inUse(`The volume ${volumeId}`, removal);
  await volume
    .destroy({ environment })
    .catch((error: unknown) => console.error(`What is in ${volumeId} stays for a while.`, error));
}
