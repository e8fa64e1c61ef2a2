import { unsupportedFields } from "../backends/backend.ts";
import { HostCatalog } from "../catalog/hosts.ts";
import { SandboxCatalog } from "../catalog/sandboxes.ts";
import type { Placement, SandboxRecord } from "../sandbox/store.ts";

/**
 * The connected hosts that can run the sandbox, those with the fewest live sandboxes first. A snapshot
 * is run only where it is.
 */
export async function findHosts(db: D1Database, record: SandboxRecord): Promise<Placement[]> {
  const alive = await new HostCatalog(db).alive(Date.now());
  const create = { ...record.create, image: record.image };
  const able = alive.filter(
    ({ hostId, info }) =>
      (record.imageHostId === undefined || record.imageHostId === hostId) &&
      unsupportedFields(create, info.capabilities).length === 0,
  );
  if (able.length < 2) return able.map(({ hostId, url }) => ({ hostId, url }));
  const sandboxes = new SandboxCatalog(db);
  const loads = await Promise.all(
    able.map(async ({ hostId, url }) => ({ hostId, url, load: (await sandboxes.liveOnHost(hostId)).length })),
  );
  return loads.toSorted((a, b) => a.load - b.load).map(({ hostId, url }) => ({ hostId, url }));
}

/** Where a host is reached now; undefined when it is not connected. */
export async function locateHost(db: D1Database, hostId: string): Promise<Placement | undefined> {
  const host = (await new HostCatalog(db).alive(Date.now())).find((alive) => alive.hostId === hostId);
  return host && { hostId, url: host.url };
}
