import { ApiError } from "../contract/errors.ts";
import { verifyVolumeGrant, type VolumeGrant } from "../contract/volume-sync.ts";
import { openVolume, type VolumeBinding } from "./client.ts";
import { PackStore } from "./pack-store.ts";
import { SYNC_ROUTES, type SyncRoute } from "./sync-routes.ts";

/** What the hosts' side of volumes is bound to. */
export interface VolumeHandlerEnv extends VolumeBinding {
  SNAPSHOTS: R2Bucket;
  SIGNING_SECRET: string;
}

const SYNC_PATH = /^\/v1\/volumes\/([^/]+)\/sync\/(.+)$/;

/** Whether the path is one of those that hosts sync volumes by. */
export const isVolumeSyncPath = (pathname: string): boolean => SYNC_PATH.test(pathname);

/** Answers a host. Its grant stands in for an API key. Throws `ApiError`s. */
export async function handleVolumeSync(request: Request, env: VolumeHandlerEnv): Promise<Response> {
  const { pathname, searchParams: query } = new URL(request.url);
  const [, volumeId = "", path = ""] = SYNC_PATH.exec(pathname) ?? [];
  const grant = await grantOf(request, env);
  // Of other volumes there is nothing to be seen, whatever there is.
  if (grant.volume_id !== volumeId) throw new ApiError("volume_not_found");
  const { route, names } = routeOf(request.method, path);
  if (route.access === "write" && grant.access !== "write")
    throw new ApiError("forbidden", { detail: "The grant is to read the volume, not to write to it." });
  const volume = openVolume(env, volumeId);
  return route.run({ request, query, names, grant, volume, store: new PackStore(env.SNAPSHOTS, volumeId) });
}

async function grantOf(request: Request, { SIGNING_SECRET: secret }: VolumeHandlerEnv): Promise<VolumeGrant> {
  const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  const grant = token && (await verifyVolumeGrant(secret, token));
  if (grant) return grant;
  throw new ApiError("unauthenticated", { detail: "The request needs a grant for the volume that is good now." });
}

function routeOf(method: string, path: string): { route: SyncRoute; names: string[] } {
  const here = SYNC_ROUTES.filter((route) => route.path.test(path));
  if (here.length === 0) throw new ApiError("not_found", { detail: "There is no such path." });
  const route = here.find((one) => one.method === method);
  if (route) return { route, names: route.path.exec(path)!.slice(1) };
  const allow = here.map((one) => one.method).join(", ");
  throw new ApiError("method_not_allowed", { detail: `The path has ${allow}.`, extra: { allow } });
}
