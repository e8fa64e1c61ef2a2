import { VolumeCatalog } from "../catalog/volumes.ts";
import { ApiError } from "../contract/errors.ts";
import type { Volume } from "../contract/volume.ts";
import type { Volumes } from "../contract/volume-mount.ts";
import type { Env } from "./env.ts";
import { fieldsRefused } from "./refused-fields.ts";

/** Throws `volume_not_found`. */
export async function findVolume(env: Env, environment: string, volumeId: string): Promise<Volume> {
  const volume = await new VolumeCatalog(env.DB).find(environment, volumeId);
  if (!volume) throw volumeNotFound(volumeId);
  return volume;
}

export const volumeNotFound = (volumeId: string): ApiError =>
  new ApiError("volume_not_found", { detail: `There is no volume ${volumeId}.` });

/**
 * The create with the ids of the volumes that it mounts. Throws `volume_not_found` naming those that are not there, and
 * `invalid_request` where one is mounted twice.
 */
export async function withVolumeIds<Create extends { volumes?: Volumes | undefined }>(
  env: Env,
  environment: string,
  create: Create,
): Promise<Create> {
  const mounts = Object.entries(create.volumes ?? {}).map(([path, use]) => ({
    path,
    use,
    field: `volumes.${path}.volume_id`,
  }));
  if (mounts.length === 0) return create;
  const references = [...new Set(mounts.map(({ use }) => use.volume_id))];
  const found = await new VolumeCatalog(env.DB).named(environment, references);
  const idOf = (reference: string) =>
    found.find(({ volumeId, name }) => volumeId === reference || name === reference)?.volumeId;
  const missing = mounts.flatMap(({ field, use: { volume_id: reference } }) =>
    idOf(reference) === undefined ? [{ path: field, message: `there is no volume ${reference}` }] : [],
  );
  if (missing.length > 0) throw fieldsRefused("volume_not_found", missing);
  const ids = mounts.map(({ use }) => idOf(use.volume_id)!);
  const again = mounts.filter((_, at) => ids.indexOf(ids[at]!) < at);
  if (again.length > 0)
    throw fieldsRefused(
      "invalid_request",
      again.map(({ field }) => ({ path: field, message: "must not mount a volume twice" })),
    );
  const volumes = Object.fromEntries(mounts.map(({ path, use }, at) => [path, { ...use, volume_id: ids[at]! }]));
  return { ...create, volumes };
}
