import type { Deadlines } from "./deadlines.ts";
import type { Ends } from "./ends.ts";
import type { LogArchive } from "./log-archive.ts";
import type { Runtime } from "./runtime.ts";
import type { Snapshots } from "./snapshots.ts";

/** What the owner of all containers works with. */
export interface ContainersOptions {
  runtime: Runtime;
  logs: LogArchive;
  deadlines: Deadlines;
  ends: Ends;
  snapshots: Snapshots;
  /** A container has ended by itself or at its deadline. */
  onExit?: () => void;
}
