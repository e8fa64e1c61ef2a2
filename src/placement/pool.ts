import type { Pool, PoolCreate } from "../contract/pool.ts";
import type { ImagePlace } from "../sandbox/rpc.ts";
import type { PlacementRequest } from "./rpc.ts";

/** A warm pool, as it is kept. Times are milliseconds since 1970. */
export interface PoolDoc {
  poolId: string;
  environment: string;
  /** With the image as resolved. */
  create: PoolCreate & { image: string };
  place?: ImagePlace | undefined;
  createdAt: number;
  /** Why the last container that could not start did not, until one does. */
  error?: string;
  failures: number;
  /** Nothing is started before. */
  retryAt: number;
}

type Shape = Pick<PlacementRequest, "environment" | "create">;

/** Two of one key can take each other's containers, if their image is still the same. */
function keyOf({ environment, create }: Shape): string {
  const { image, cpu, memory, gpu, workdir, region, host_labels: labels = {}, block_network } = create;
  const sorted = Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([environment, image, cpu, memory, gpu, workdir, region, sorted, block_network ?? false]);
}

export const keyOfPool = (pool: PoolDoc): string => keyOf(pool);

/** Undefined for what no container that runs already can become. */
export function keyOfCreate(request: PlacementRequest): string | undefined {
  const { unencrypted_ports: ports = [], volumes = {} } = request.create;
  // Ports are published, and volumes mounted, as a container is made.
  return ports.length > 0 || Object.keys(volumes).length > 0 ? undefined : keyOf(request);
}

/** One container of the pool, to be placed. */
export function requestOf({ environment, create, place }: PoolDoc, id: string, now: number): PlacementRequest {
  const { size: _, ...rest } = create;
  return { sandboxId: id, environment, create: rest, place, since: now };
}

/** `isFull`: no host had room when it was last looked for more. */
export function describePool(pool: PoolDoc, ready: number, starting: number, isFull: boolean): Pool {
  const { poolId, create, createdAt } = pool;
  const isShort = isFull && ready + starting < create.size;
  const error = pool.error ?? (isShort ? "No host that can start more of them has room now." : undefined);
  return {
    pool_id: poolId,
    ...create,
    ready,
    starting,
    ...(error !== undefined && { error }),
    created_at: new Date(createdAt).toISOString(),
  };
}
