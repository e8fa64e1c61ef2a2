import { rename, writeFile } from "node:fs/promises";
import { z } from "zod";
import { StartSpecSchema } from "../../contract/host-protocol.ts";

/** What of a container outlives this daemon. */
export const KeptStateSchema = StartSpecSchema.extend({
  deadline_at: z.int(),
  // Those of earlier daemons have none.
  lifetime_ms: z.int().default(0),
});
export type KeptState = z.infer<typeof KeptStateSchema>;

/** Keeps what `recover` needs; complete or not there. */
export async function writeState(dir: string, state: KeptState): Promise<void> {
  await writeFile(`${dir}/state.json.new`, JSON.stringify(state), { mode: 0o600 });
  await rename(`${dir}/state.json.new`, `${dir}/state.json`);
}
