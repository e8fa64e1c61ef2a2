import { NameCatalog } from "../catalog/names.ts";
import { SandboxCatalog } from "../catalog/sandboxes.ts";
import { hostIdOf } from "../backends/backend.ts";
import { isLive } from "../contract/sandbox.ts";
import { describeSandbox } from "../sandbox/describe.ts";
import type { SandboxRecord } from "../sandbox/store.ts";

/** Writes a sandbox's record to the catalog; an ended one gives its name back. Safe to repeat. */
export async function publishSandbox(db: D1Database, record: SandboxRecord): Promise<void> {
  await new SandboxCatalog(db).apply({
    environment: record.environment,
    hostId: hostIdOf(record.placement),
    generation: record.generation,
    version: record.version,
    sandbox: describeSandbox(record),
  });
  if (!isLive(record.state) && record.create.name !== undefined) {
    await new NameCatalog(db).releaseAll(record.sandboxId);
  }
}

/** Takes a sandbox that is to be forgotten out of the catalog. Safe to repeat. */
export async function unpublishSandbox(db: D1Database, sandboxId: string): Promise<void> {
  await new SandboxCatalog(db).remove(sandboxId);
}
