import { unwrapReplies, type Replies } from "../rpc/api-reply.ts";
import { repeated } from "../rpc/repeated.ts";
import { ApiError } from "../contract/errors.ts";
import { isId } from "../contract/ids.ts";
import type { VolumeRpc } from "./rpc.ts";

/** What the Worker and other objects reach volumes by. */
export interface VolumeBinding {
  /** One object per volume, by its id. */
  VOLUMES: DurableObjectNamespace<Replies<VolumeRpc> & Rpc.DurableObjectBranded>;
}

/** All of them change nothing the second time, and so may be asked again of an object that was lost while it was asked. */
const REPEATABLE: ReadonlySet<keyof VolumeRpc> = new Set([
  "create",
  "destroy",
  "confirmLater",
  "contents",
  "admit",
  "changes",
  "missing",
  "locate",
  "stagePart",
  "commit",
  "stat",
  "list",
  "content",
]);

/** The object of a volume. Its methods throw the errors that it replies. An id that cannot be one is `volume_not_found`. */
export function openVolume({ VOLUMES: volumes }: VolumeBinding, volumeId: string): VolumeRpc {
  if (!isId("volume", volumeId)) throw new ApiError("volume_not_found");
  // RPC's own types wrap every result in what only matters for classes that cross it; ours are plain data.
  const stub = () => volumes.get(volumes.idFromName(volumeId)) as unknown as Replies<VolumeRpc>;
  return repeated(() => unwrapReplies<VolumeRpc>(stub()), REPEATABLE);
}
