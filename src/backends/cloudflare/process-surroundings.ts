import type { ProcessFinishReason } from "../../contract/process.ts";
import type { AgentAddress } from "./agent/connection.ts";
import type { CloudflareStore } from "./store.ts";

/** What a process needs of the container that it runs in. */
export interface ProcessSurroundings {
  store: CloudflareStore;
  agent(): AgentAddress;
  /** Whether the container still runs. When it does not: what becomes of its processes. */
  isRunning(): boolean;
  endedBecause(): ProcessFinishReason;
  /** More output has been stored. */
  stored(): void;
}
