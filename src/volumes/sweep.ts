import { VOLUME_HISTORY_MS } from "../contract/volume-sync.ts";
import { sweepLoose } from "./loose.ts";
import type { VolumeParts } from "./parts.ts";

/** Steps of each kind that one alarm takes: it is over within seconds, and another one goes on. */
const LOOSE_STEPS = 50;
const COMPACTED_PACKS = 4;
const LISTED_PAGES = 10;

/**
 * Removes what nobody needs any more. Every step may be repeated, and one that fails leaves the others to go on. `unfinished`:
 * there is more to do at once; `failed`: something is to be tried again.
 */
export async function sweep(parts: VolumeParts): Promise<"done" | "unfinished" | "failed"> {
  const { sql, staging, compaction, orphans, garbage, grace, transaction } = parts;
  const now = Date.now();
  const before = now - grace.keptMs;
  transaction(() => staging.sweep(before));
  transaction(() => forgetHistory(sql, now - VOLUME_HISTORY_MS));
  const outcomes = [
    await attempt("chunks", () => steps(LOOSE_STEPS, async () => transaction(() => sweepLoose(sql, before)))),
    await attempt("empty packs", async () => transaction(() => sweepEmptyPacks(parts, before))),
    await attempt("mostly dead packs", () => steps(COMPACTED_PACKS, () => compaction.step(before, grace.keptMs))),
    await attempt("unknown packs", () => steps(LISTED_PAGES, () => orphans.step(before))),
    await attempt("garbage", async () => {
      await garbage.collect();
      return false;
    }),
  ];
  if (outcomes.includes("unfinished")) return "unfinished";
  return outcomes.includes("failed") ? "failed" : "done";
}

/** True where the last step was not the end. */
async function steps(most: number, step: () => Promise<boolean>): Promise<boolean> {
  for (let taken = 0; taken < most; taken += 1) if (!(await step())) return false;
  return true;
}

function sweepEmptyPacks({ sql, garbage }: VolumeParts, before: number): boolean {
  const gone = sql
    .exec<{ pack_id: string }>(
      `DELETE FROM packs WHERE live = 0 AND created_at <= ?
       AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.id) RETURNING pack_id`,
      before,
    )
    .toArray();
  for (const { pack_id: packId } of gone) garbage.add(packId, Date.now());
  return false;
}

/** Forgets commits made before, and what they have removed. */
function forgetHistory(sql: SqlStorage, before: number): void {
  const { version } = sql
    .exec<{ version: number | null }>("SELECT max(version) AS version FROM commits WHERE committed_at <= ?", before)
    .one();
  if (version === null) return;
  sql.exec("DELETE FROM commits WHERE committed_at <= ?", before);
  const forgotten = sql
    .exec<{ version: number }>("DELETE FROM entries WHERE type = 'removed' AND version <= ? RETURNING version", version)
    .toArray();
  if (forgotten.length > 0) sql.exec("UPDATE volume SET told_since = max(told_since, ?)", version);
}

async function attempt(what: string, run: () => Promise<boolean>): Promise<"done" | "unfinished" | "failed"> {
  try {
    return (await run()) ? "unfinished" : "done";
  } catch (error) {
    console.error(`A volume's sweep of ${what} failed; the next one repeats it.`, error);
    return "failed";
  }
}
