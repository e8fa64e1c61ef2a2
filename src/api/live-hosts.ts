import { stateOf, type HostClock } from "../catalog/host-document.ts";
import type { Host } from "../contract/host.ts";
import { openPlacement, type PlacementBinding } from "../placement/client.ts";
import type { LiveHost } from "../placement/rpc.ts";

/** The hosts with what changes too often to be in the catalog. Where that cannot be had they are as the catalog has them. */
export async function withLiveFigures(env: PlacementBinding, hosts: Host[], clock: HostClock): Promise<Host[]> {
  const live: Record<string, LiveHost> = await openPlacement(env)
    .live(hosts.map(({ host_id }) => host_id))
    .catch((error: unknown) => {
      console.error("What hosts are at now cannot be had.", error);
      return {};
    });
  return hosts.map((host) => {
    const now = live[host.host_id];
    if (!now) return host;
    return {
      ...host,
      state: stateOf(now.lastSeenAt, clock),
      last_seen_at: new Date(now.lastSeenAt).toISOString(),
      ...(now.diskFree !== undefined && { disk_free: now.diskFree }),
      used: now.used,
    };
  });
}
