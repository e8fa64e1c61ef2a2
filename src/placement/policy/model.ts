import type { GpuWish } from "../../contract/gpu.ts";
import type { HostInfo } from "../../contract/host-info.ts";

/** What a container asks of a host. */
export interface Demand {
  /** Of the sandbox, or of the warm container. */
  id: string;
  environment: string;
  /** Cores. */
  cpu: number;
  /** MiB. */
  memory: number;
  /** Alternatives, the best first; the devices of one are all on one host. Empty: none. */
  gpus: readonly GpuWish[];
  /** The image as hosts report it: the id of a snapshot, or a reference. */
  image: string;
  hosts: HostClass;
  /** Since when it waits, in milliseconds since 1970: who came first goes first. */
  since: number;
}

/** Which hosts may have it, however busy they are. */
export interface HostClass {
  /** Two of one key may go to the same hosts. */
  key: string;
  /** Says nothing of how much room there is, and the same of hosts that say the same of themselves. */
  admits(info: Omit<HostInfo, "host_id">): boolean;
  /** The only host that can have it, where there is but one. */
  onlyHost?: string | undefined;
  /** Why it admits none of these, which are all there are: for who asked for it. */
  refusal?(infos: readonly Omit<HostInfo, "host_id">[]): Impossibility[];
}

/** A field of a create that nothing can serve, and what there is instead. */
export interface Impossibility {
  path: string;
  message: string;
}

/** How many may wait. */
export interface SchedulerLimits {
  perEnvironment: number;
  total: number;
}

/** What is promised of one host, or of all. `cpu` in cores, `memory` in MiB; of the warm too. */
export interface Use {
  sandboxes: number;
  warm: number;
  cpu: number;
  memory: number;
  gpus: number;
}

/** `cpu`, `memory`, `gpus`: what all hosts that know have, overcommitted. `kept`: hosts of which a part is kept for one who waits. */
export interface Totals {
  hosts: number;
  open: number;
  cpu: number;
  memory: number;
  gpus: number;
  used: Use;
  queued: number;
  kept: number;
}

/** A host, as far as it matters where something goes. */
export interface FleetHost {
  hostId: string;
  info: HostInfo;
  /** Takes something new: it reports, is not draining, and its disk has room. */
  isOpen: boolean;
  /** The snapshots and references that need not be pulled there. Where they change it is another set. */
  images: ReadonlySet<string>;
}

/** A part of a host that is promised: to a sandbox, or to the warm container of a pool, which gives way. */
export interface Holding {
  id: string;
  environment: string;
  hostId: string;
  cpu: number;
  memory: number;
  /** UUIDs. */
  gpus: readonly string[];
  isWarm: boolean;
}

/** `evicted`: the warm containers of that host whose holdings have given way. */
export interface Grant {
  holding: Holding;
  evicted: readonly string[];
}

/** `full`: whose queue cannot take one more. */
export type Decision =
  | { kind: "granted"; grant: Grant }
  | { kind: "queued" }
  | { kind: "full"; whose: "environment" | "deployment" };
