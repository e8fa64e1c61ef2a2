import { VolumeCatalog, type VolumeRow } from "../catalog/volumes.ts";
import { hasCode } from "../contract/errors.ts";
import type { Volume } from "../contract/volume.ts";
import { openVolume } from "../volumes/client.ts";
import type { Env } from "./env.ts";

/** As long as the same request may come again, and be the same by its key. */
const DONE_WITHIN_MS = 2 * 86_400_000;

/**
 * Makes a volume: first its object, then the catalog's row, so that whoever finds it can use it. Cut off between, the same request
 * makes it whole, and where none comes the object goes by itself. Throws `conflict` where another has the name.
 */
export async function createVolume(env: Env, row: VolumeRow): Promise<Volume> {
  const { environment, volumeId } = row;
  const volume = openVolume(env, volumeId);
  await volume.create(environment, volumeId);
  await volume.confirmLater({ environment }, DONE_WITHIN_MS);
  try {
    return await new VolumeCatalog(env.DB).add(row);
  } catch (error) {
    if (hasCode(error, "conflict")) await volume.destroy({ environment }).catch(() => undefined);
    throw error;
  }
}
