import { unsupportedFields, type HostPlacement, type Placement } from "../backends/backend.ts";
import { HostCatalog } from "../catalog/hosts.ts";
import { SandboxCatalog } from "../catalog/sandboxes.ts";
import type { SandboxRecord } from "../sandbox/store.ts";

/** Where the sandbox can run, the best first: beside its object, or on a host. */
export async function findPlaces(db: D1Database, record: SandboxRecord): Promise<Placement[]> {
  if (record.backend !== "cloudflare") return findHosts(db, record);
  const { imageSnapshotId: snapshotId } = record;
  return [{ kind: "cloudflare", ...(snapshotId !== undefined && { snapshotId }) }];
}

/**
 * The connected hosts that can run the sandbox, those with the fewest live sandboxes first. A snapshot
 * is run only where it is.
 */
async function findHosts(db: D1Database, record: SandboxRecord): Promise<HostPlacement[]> {
  const alive = await new HostCatalog(db).alive(Date.now());
  const create = { ...record.create, image: record.image };
  const able = alive
    .filter(
      ({ hostId, info }) =>
        (record.imageHostId === undefined || record.imageHostId === hostId) &&
        unsupportedFields(create, info.capabilities).length === 0,
    )
    .map(({ hostId, url }): HostPlacement => ({ kind: "host", hostId, url }));
  if (able.length < 2) return able;
  const sandboxes = new SandboxCatalog(db);
  const loads = await Promise.all(
    able.map(async (place) => ({ place, load: (await sandboxes.liveOnHost(place.hostId)).length })),
  );
  return loads.toSorted((a, b) => a.load - b.load).map(({ place }) => place);
}

/** Where a host is reached now; undefined when it is not connected. */
export async function locateHost(db: D1Database, hostId: string): Promise<HostPlacement | undefined> {
  const host = (await new HostCatalog(db).alive(Date.now())).find((alive) => alive.hostId === hostId);
  return host && { kind: "host", hostId, url: host.url };
}

/** How long the host has told nobody that it is there, in milliseconds; undefined where it was removed. */
export async function silenceOf(db: D1Database, hostId: string): Promise<number | undefined> {
  const now = Date.now();
  const lastSeenAt = await new HostCatalog(db).lastSeenAt(hostId);
  return lastSeenAt === undefined ? undefined : now - lastSeenAt;
}
