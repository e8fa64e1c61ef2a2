import type { Backend } from "../backends/backend.ts";
import { hasStarted } from "./machine.ts";
import type { SandboxRecord } from "./store.ts";
import { within } from "./within.ts";

/** How much longer than its time a sandbox may go on for it. */
const STORE_MS = 5_000;

/**
 * Stores what a sandbox whose time is up has written to its volumes, before it is said to have ended: whoever sees that, and starts
 * another, finds it there. What cannot be stored in time its host stores once the container is gone. Never throws.
 */
export async function storeVolumes(record: Readonly<SandboxRecord> | undefined, open: () => Backend): Promise<void> {
  if (!record || !hasStarted(record.state)) return;
  const written = Object.entries(record.create.volumes ?? {}).filter(([, { read_only }]) => !read_only);
  if (written.length === 0) return;
  const paths = written.map(([path]) => path);
  await within(STORE_MS, async () => open().commitVolumes(paths));
}
