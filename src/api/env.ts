import type { ScopeName } from "../contract/key.ts";
import type { HostStanding } from "../catalog/hosts.ts";
import type { AuthEnv, Principal } from "../auth/principal.ts";
import type { PlacementBinding } from "../placement/client.ts";
import type { RegistryBinding } from "../registry/client.ts";
import type { GraceVariables } from "../registry/grace.ts";
import type { Replies } from "../rpc/api-reply.ts";
import type { SandboxRpc } from "../sandbox/rpc.ts";
import type { KeyRingVariables } from "../secrets/key-ring.ts";
import type { VolumeBinding } from "../volumes/client.ts";

/** What the Worker is bound to. */
export interface Env
  extends AuthEnv, RegistryBinding, PlacementBinding, VolumeBinding, GraceVariables, KeyRingVariables {
  /** The catalog. */
  DB: D1Database;
  /** One object per sandbox, by its id. */
  SANDBOXES: DurableObjectNamespace<Replies<SandboxRpc> & Rpc.DurableObjectBranded>;
  /** The bytes of the registry's blobs and of the volumes. */
  SNAPSHOTS: R2Bucket;
  /** Signs what the control plane and the hosts say to each other. */
  SIGNING_SECRET: string;
  /** The image of a create that names none; left out, the hosts' own default is used. */
  DEFAULT_IMAGE?: string;
  /** See `contract/limits.ts`. */
  RETENTION_SECONDS?: string;
  HOST_LOST_SECONDS?: string;
  SCHEDULING_SECONDS?: string;
  /** Where a sandbox runs that asks for no backend: `docker`, on the hosts that are connected, if left out. */
  DEFAULT_BACKEND?: string;
  /** Sandboxes answer at `<port>-<sandbox id>.<this>`; `localhost` if left out. */
  TUNNEL_DOMAIN?: string;
  /** What counts as the address of whoever calls a tunnel; left out, the one that Cloudflare says. See `client-address.ts`. */
  CLIENT_ADDRESS?: string;
}

/** What the middleware knows of a request. */
export interface ApiVariables {
  requestId: string;
  route: MatchedRoute;
  principal: Principal;
  /** Of a request that a host has signed: the version of its key, and how it stands; undefined before its first report. */
  hostKeyVersion: number;
  hostStanding: HostStanding | undefined;
}

/** What the route table says about the operation that was asked for. */
export interface MatchedRoute {
  /** The scope it needs; undefined where no API key is asked for. */
  scope: ScopeName | undefined;
  /** Whether it takes a JSON body, and whether that may be left out. */
  jsonBody: "required" | "optional" | "none";
}

export interface ApiEnv {
  Bindings: Env;
  Variables: ApiVariables;
}
