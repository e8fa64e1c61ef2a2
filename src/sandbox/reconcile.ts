import { hostIdOf } from "../backends/backend.ts";
import { isLive } from "../contract/sandbox.ts";
import type { Parts } from "./parts.ts";
import type { SandboxRecord } from "./store.ts";

/**
 * True when the container of that generation on that host is this sandbox's own and is to live: also one that has ended, while
 * its filesystem is still to be kept.
 */
export function claims(
  record: Readonly<SandboxRecord> | undefined,
  hostId: string,
  generation: number,
  isKept: boolean,
): boolean {
  return (
    record !== undefined &&
    (isLive(record.state) || isKept) &&
    hostIdOf(record.placement) === hostId &&
    record.generation === generation
  );
}

/** True while the sandbox has, or is about to have, its container on that host. */
export function needsPlace(record: Readonly<SandboxRecord> | undefined, hostId: string): boolean {
  if (!record || record.isCleanedUp) return false;
  return (isLive(record.state) && record.startedAt === undefined) || hostIdOf(record.placement) === hostId;
}

/** Makes true again what a host's report and the catalog tell differently about a sandbox. */
export async function reconcile(parts: Parts, waitUntil: (work: Promise<unknown>) => void): Promise<void> {
  const { store, host, outbox, starter, watch } = parts;
  if (!store.record) return;
  await host.relocate().catch(() => undefined);
  if (!isLive(store.record.state)) waitUntil(outbox.flush());
  else if (store.record.startedAt === undefined) waitUntil(starter.start());
  else await watch.check();
}
