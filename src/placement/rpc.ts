import type { HostPlacement } from "../backends/backend.ts";
import type { HostUse } from "../contract/host.ts";
import type { WarmSpec } from "../contract/host-protocol.ts";
import type { HostReport } from "../contract/host-report.ts";
import type { Page } from "../contract/list.ts";
import type { Pool, PoolCreate, PoolPatch } from "../contract/pool.ts";
import type { SandboxCreate } from "../contract/sandbox.ts";
import type { ImagePlace } from "../sandbox/rpc.ts";

/** What of a create says where it can run. */
export const PLACING_FIELDS = [
  "image",
  "cpu",
  "memory",
  "gpu",
  "workdir",
  "region",
  "host_labels",
  "block_network",
  "outbound_cidr_allowlist",
  "outbound_domain_allowlist",
  "inbound_cidr_allowlist",
  "egress_headers",
  "volumes",
  "pty",
  "encrypted_ports",
  "unencrypted_ports",
  "readiness_probe",
] as const satisfies (keyof SandboxCreate)[];

/** A sandbox that is to be placed. */
export interface PlacementRequest {
  sandboxId: string;
  environment: string;
  create: Pick<SandboxCreate, (typeof PLACING_FIELDS)[number]>;
  /** Where the image is, when it is one of the deployment's own. */
  place?: ImagePlace | undefined;
  /** Since when it waits, in milliseconds since 1970. */
  since: number;
}

/** What of a create says where it can run: nothing else of it is anybody else's to know. */
export function placingFields(create: SandboxCreate): PlacementRequest["create"] {
  const given = PLACING_FIELDS.filter((field) => create[field] !== undefined);
  return Object.fromEntries(given.map((field) => [field, create[field]]));
}

/** Where it is to start, or why it is nowhere yet. */
export type Reservation = { place: HostPlacement } | { why: string };

export interface ReserveOptions {
  /** Hosts that have failed it. */
  excluded: readonly string[];
  /** How long to wait for room. */
  waitMs: number;
}

/** What the catalog says of a host. */
export interface HostStanding {
  draining: boolean;
  /** Of the key that it signs with. */
  keyVersion: number;
}

export interface ReportAnswer {
  /** All the warm containers that the host is to have; undefined where it can have none. */
  warm: WarmSpec[] | undefined;
  /** It says of itself what it has not said before. */
  isNews: boolean;
}

/** What changes too often to be in the catalog. */
export interface LiveHost {
  /** Milliseconds since 1970. */
  lastSeenAt: number;
  /** MiB, as last reported. */
  diskFree: number | undefined;
  used: HostUse;
}

/** `PoolCreate` with what the API has found out about its image. */
export interface PoolInput {
  poolId: string;
  environment: string;
  create: PoolCreate;
  place?: ImagePlace | undefined;
}

/** A sandbox that was taken in. */
export interface Admission {
  /** That it starts from. */
  image: string;
  /** The place that it has, unless it stands in line for one. */
  place?: HostPlacement | undefined;
}

/** What may be asked of the one object that knows which host has room. */
export interface PlacementRpc {
  /**
   * Takes a new sandbox in: it has a place, or stands in line for one, until `release`. Throws `unsupported_by_backend`, naming the
   * fields that no host can honour and what there is, `image_elsewhere`, and `rate_limited` or `at_capacity` when too many wait.
   */
  admit(request: PlacementRequest): Promise<Admission>;
  /**
   * A sandbox that was taken in, and has not started, asks for something else. Throws `unsupported_by_backend` where the host of its
   * place, or without one every host, cannot honour it; else it waits by that from now on.
   */
  amend(request: PlacementRequest): Promise<void>;
  /** The place of a sandbox. Asked again it answers the same, unless that host is excluded by now. */
  reserve(request: PlacementRequest, options: ReserveOptions): Promise<Reservation>;
  /** Gives up the sandbox's place, or its turn. Nothing happens where it has none. */
  release(sandboxId: string): Promise<void>;
  /** A host has reported. Throws `forbidden` of one that was removed, `unauthenticated` of a key that was revoked. */
  report(report: HostReport, standing: HostStanding): Promise<ReportAnswer>;
  setDraining(hostId: string, draining: boolean): Promise<void>;
  /** Keys before this version were revoked: whoever has one of them is not the host any more, wherever it says that it is reached. */
  distrust(hostId: string, oldestKeyVersion: number): Promise<void>;
  /** The host was removed. */
  forget(hostId: string): Promise<void>;
  /** Where a host is reached now; undefined when it is not connected. */
  locate(hostId: string): Promise<HostPlacement | undefined>;
  /** How long the host has told nobody that it is there, in milliseconds; undefined where it was removed. */
  silence(hostId: string): Promise<number | undefined>;
  /** Those that it knows. */
  live(hostIds: readonly string[]): Promise<Record<string, LiveHost>>;
  /** Safe to repeat. Throws as `admit` does. */
  createPool(input: PoolInput): Promise<Pool>;
  pools(environment: string, cursor: string | undefined, limit: number): Promise<Page<Pool>>;
  /** Throws `not_found`, as the two below do. */
  pool(environment: string, poolId: string): Promise<Pool>;
  patchPool(environment: string, poolId: string, patch: PoolPatch): Promise<Pool>;
  deletePool(environment: string, poolId: string): Promise<void>;
}
