import type { VolumeParts } from "./parts.ts";

/** Pages of the bucket that one step deletes. */
const PAGES_AT_ONCE = 10;
const MORE_AFTER_MS = 1000;
/** A pack that was on its way when the volume went has come, or never will. */
const LATE_PACKS_MS = 3_600_000;

/** Deletes what is left of a volume that is no more; answers after how long to go on, and undefined when all of it is gone. */
export async function destroyStep(parts: VolumeParts, destroyedAt: number): Promise<number | undefined> {
  const { store, record, storage } = parts;
  try {
    for (let page = 0; page < PAGES_AT_ONCE; page += 1) {
      const { packs, hasMore } = await store.list(undefined);
      if (packs.length > 0) await store.delete(packs.map(({ packId }) => packId));
      if (hasMore) continue;
      const lateMs = destroyedAt + LATE_PACKS_MS - Date.now();
      if (lateMs > 0) return lateMs;
      await storage.deleteAll();
      record.forget();
      return undefined;
    }
  } catch (error) {
    console.error("The packs of a deleted volume could not be deleted; that is tried again.", error);
    return LATE_PACKS_MS;
  }
  return MORE_AFTER_MS;
}
