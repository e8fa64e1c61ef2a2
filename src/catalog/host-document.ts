import { HOST_ALIVE_MS, type Host, type HostState } from "../contract/host.ts";
import type { hosts } from "./schema.ts";

/** What a host's state depends on: the time, and how long its silence may last until it counts as lost. Milliseconds. */
export interface HostClock {
  now: number;
  lostAfterMs: number;
}

/** A host's row as users see it. What only its live figures tell is left out. */
export function describeHost(row: typeof hosts.$inferSelect, clock: HostClock): Host {
  const { info, lastSeenAt, keyVersion, seenKeyVersion } = row;
  return {
    host_id: row.hostId,
    name: row.name,
    state: stateOf(lastSeenAt, clock),
    draining: row.draining,
    ...(row.url !== null && { url: row.url }),
    ...(info && {
      runtime: info.runtime,
      version: info.version,
      default_image: info.default_image,
      capabilities: info.capabilities,
      ...(info.capacity && { capacity: info.capacity }),
      ...(info.region !== undefined && { region: info.region }),
      ...(info.labels && { labels: info.labels }),
    }),
    key_version: seenKeyVersion,
    ...(keyVersion > seenKeyVersion && { next_key_version: keyVersion }),
    created_at: new Date(row.createdAt).toISOString(),
    ...(lastSeenAt !== null && { last_seen_at: new Date(lastSeenAt).toISOString() }),
  };
}

export function stateOf(lastSeenAt: number | null, { now, lostAfterMs }: HostClock): HostState {
  if (lastSeenAt === null) return "waiting";
  const silentMs = now - lastSeenAt;
  if (silentMs <= HOST_ALIVE_MS) return "alive";
  return silentMs <= lostAfterMs ? "suspect" : "lost";
}
