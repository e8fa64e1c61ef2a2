import { unsupportedFields, type HostPlacement, type Placement } from "../backends/backend.ts";
import { HostCatalog, type AliveHost } from "../catalog/hosts.ts";
import { SandboxCatalog } from "../catalog/sandboxes.ts";
import type { ImagePlace } from "../sandbox/rpc.ts";
import type { SandboxRecord } from "../sandbox/store.ts";

/** Where the sandbox can run, the best first: beside its object, or on a host. */
export async function findPlaces(db: D1Database, record: SandboxRecord): Promise<Placement[]> {
  if (record.backend !== "cloudflare") return findHosts(db, record);
  const snapshotId = record.place?.snapshotId;
  return [{ kind: "cloudflare", ...(snapshotId !== undefined && { snapshotId }) }];
}

/** So many sandboxes more may run where the image was made, and need not be pulled, before another host goes first. */
const AT_HOME = 8;

/** The connected hosts that can run the sandbox, those with the fewest live sandboxes first. */
async function findHosts(db: D1Database, record: SandboxRecord): Promise<HostPlacement[]> {
  const alive = await new HostCatalog(db).alive(Date.now());
  const { place } = record;
  const { image, ...rest } = { ...record.create, image: record.image };
  const create = place?.source ? rest : { ...rest, image };
  const able = alive
    .filter((host) => canHave(place, host) && unsupportedFields(create, host.info.capabilities).length === 0)
    .map(({ hostId, url }): HostPlacement => ({ kind: "host", hostId, url }));
  if (able.length < 2) return able;
  const sandboxes = new SandboxCatalog(db);
  const loads = await Promise.all(
    able.map(async (host) => {
      const { length } = await sandboxes.liveOnHost(host.hostId);
      return { host, load: host.hostId === place?.hostId ? length - AT_HOME : length };
    }),
  );
  return loads.toSorted((a, b) => a.load - b.load).map(({ host }) => host);
}

/** Whether an image of the deployment's own can start there. Any host can have any other image. */
export function canHave(place: ImagePlace | undefined, { hostId, info }: Pick<AliveHost, "hostId" | "info">): boolean {
  if (!place) return true;
  if (!place.source) return place.hostId === undefined || place.hostId === hostId;
  return place.runtime === undefined || place.runtime === info.runtime;
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
