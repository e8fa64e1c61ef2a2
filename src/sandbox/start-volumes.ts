import type { VolumeCatalog } from "../catalog/volumes.ts";
import { ApiError } from "../contract/errors.ts";
import type { VolumeMount, VolumeUse } from "../contract/volume-mount.ts";
import { signVolumeGrant, type VolumeGrant } from "../contract/volume-sync.ts";
import type { SandboxRecord } from "./store.ts";

/** The sandbox's volumes, each with a grant that is made for this start and kept nowhere. Throws where one is no more. */
export async function startVolumes(
  { environment, create: { volumes = {} } }: SandboxRecord,
  catalog: Pick<VolumeCatalog, "named">,
  signingSecret: string,
): Promise<VolumeMount[]> {
  const mounts = Object.entries(volumes);
  if (mounts.length === 0) return [];
  const ids = mounts.map(([, use]) => use.volume_id);
  const there = new Set((await catalog.named(environment, ids)).map(({ volumeId }) => volumeId));
  const gone = ids.find((id) => !there.has(id));
  if (gone !== undefined) throw new ApiError("volume_not_found", { detail: `There is no volume ${gone} any more.` });
  return Promise.all(
    mounts.map(([path, use]) =>
      mountOf(path, use, (grant) => signVolumeGrant(signingSecret, { ...grant, environment })),
    ),
  );
}

async function mountOf(
  path: string,
  { volume_id, read_only, sub_path }: VolumeUse,
  sign: (grant: Omit<VolumeGrant, "environment">) => Promise<string>,
): Promise<VolumeMount> {
  const access = read_only ? "read" : "write";
  if (sub_path === undefined) return { path, volume_id, read_only, token: await sign({ volume_id, access }) };
  return { path, volume_id, read_only, sub_path, token: await sign({ volume_id, access, prefix: sub_path }) };
}
