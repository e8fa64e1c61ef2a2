import type { Deadlines } from "./deadlines.ts";
import type { Ends } from "./ends.ts";
import type { GpuLedger } from "./gpu-ledger.ts";
import type { LogArchive } from "./log-archive.ts";
import type { Networks } from "./network/networks.ts";
import type { Runtime } from "./runtime.ts";
import type { Snapshots } from "./snapshots.ts";
import type { Volumes } from "./volumes/volumes.ts";

/** What the owner of all containers works with. */
export interface ContainersOptions {
  runtime: Pick<Runtime, "start" | "recover">;
  logs: LogArchive;
  deadlines: Deadlines;
  ends: Ends;
  snapshots: Snapshots;
  gpus: GpuLedger;
  volumes: Volumes;
  networks: Networks;
  /** A container has ended by itself or at its deadline. */
  onExit?: () => void;
}
