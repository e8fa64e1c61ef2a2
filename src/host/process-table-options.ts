import type { Activity } from "../process/activity.ts";
import type { Pump } from "./logs/pump.ts";

export interface ProcessTableOptions {
  /** Output kept of each stream. */
  windowBytes?: number | undefined;
  /** Output kept of all processes of the sandbox together. */
  totalBytes?: number | undefined;
  /** Processes that run at a time. */
  maxRunning?: number | undefined;
}

export interface TableParts {
  /** Where the logs and the journal lie. */
  folder: string;
  pump: Pump;
  activity: Activity;
}
