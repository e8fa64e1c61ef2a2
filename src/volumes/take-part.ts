import type { CommitPart } from "../contract/volume-sync.ts";
import type { VolumeParts } from "./parts.ts";
import type { GrantScope } from "./rpc.ts";
import { packMissing } from "./staging.ts";

/** Packs that the bucket is asked for at once. */
const ASKED_AT_ONCE = 6;

interface NumberedPart {
  commitId: string;
  number: number;
  part: CommitPart;
}

/** Keeps a part for its commit, once the bucket has the packs that it names. */
export async function takePart(
  parts: VolumeParts,
  { environment }: GrantScope,
  { commitId, number, part }: NumberedPart,
) {
  const { staging, orphans, record, transaction } = parts;
  const named = [...new Set(part.chunks.map(({ pack }) => pack))];
  const unknown = staging.unknownPacks(named);
  await orphans.without(unknown, async () => {
    const sizes = await sizesOf(parts, unknown);
    transaction(() => {
      record.require(environment);
      const since = staging.unknownPacks(named).find((packId) => !sizes.has(packId));
      if (since !== undefined) throw packMissing(since);
      staging.put(commitId, number, part, sizes);
    });
  });
}

async function sizesOf({ store }: VolumeParts, packIds: string[]): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  for (let at = 0; at < packIds.length; at += ASKED_AT_ONCE) {
    const some = packIds.slice(at, at + ASKED_AT_ONCE).map(async (packId) => {
      const size = await store.size(packId);
      if (size === undefined) throw packMissing(packId);
      sizes.set(packId, size);
    });
    await Promise.all(some);
  }
  return sizes;
}
