import { unwrapReplies, type Replies } from "../rpc/api-reply.ts";
import { repeated } from "../rpc/repeated.ts";
import type { PlacementRpc } from "./rpc.ts";

/** What the placement is reached by. */
export interface PlacementBinding {
  /** One object, for the whole deployment. */
  PLACEMENT: DurableObjectNamespace<Replies<PlacementRpc> & Rpc.DurableObjectBranded>;
}

const THE_ONE = "main";

/** All of them change nothing the second time, and so may be asked again of an object that was lost while it was asked. */
const REPEATABLE: ReadonlySet<keyof PlacementRpc> = new Set([
  "admit",
  "amend",
  "reserve",
  "release",
  "report",
  "setDraining",
  "distrust",
  "forget",
  "locate",
  "silence",
  "live",
  "createPool",
  "pools",
  "pool",
  "patchPool",
  "deletePool",
]);

/** The placement. Its methods throw the errors that it replies. */
export function openPlacement({ PLACEMENT: placements }: PlacementBinding): PlacementRpc {
  // RPC's own types wrap every result in what only matters for classes that cross it; ours are plain data.
  const stub = () => placements.get(placements.idFromName(THE_ONE)) as unknown as Replies<PlacementRpc>;
  return repeated(() => unwrapReplies<PlacementRpc>(stub()), REPEATABLE);
}
