import { repeated } from "../rpc/repeated.ts";
import { unwrapReplies, type Replies } from "./reply.ts";
import type { RegistryRpc } from "./rpc.ts";

/** What the Worker reaches the objects by. */
export interface RegistryBinding {
  /** One object per environment, by its name. */
  REGISTRIES: DurableObjectNamespace<Replies<RegistryRpc> & Rpc.DurableObjectBranded>;
}

/** What may be asked again of an object that was lost while it was asked, as by a deploy: the second time changes nothing. */
const REPEATABLE: ReadonlySet<keyof RegistryRpc> = new Set([
  "resolve",
  "images",
  "removeTag",
  "arm",
  "findBlob",
  "openUpload",
  "uploadOffset",
  "renewClaim",
  "multipartBegun",
  "uploadWritten",
  "releaseUpload",
  "partsOf",
  "putManifest",
  "getManifest",
  "tags",
  "repositories",
  "referrers",
]);

/** The registry of an environment. Its methods throw the refusals that the object replies. */
export function openRegistry({ REGISTRIES: registries }: RegistryBinding, environment: string): RegistryRpc {
  // RPC's own types wrap every result in what only matters for classes that cross it; ours are plain data.
  const open = () => registries.get(registries.idFromName(environment)) as unknown as Replies<RegistryRpc>;
  // The replies are below: what is thrown there means that the object went away, and a refusal is none of that.
  return unwrapReplies<RegistryRpc>(repeated(open, REPEATABLE));
}
