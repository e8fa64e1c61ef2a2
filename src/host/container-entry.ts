import type { ContainerExit, ContainerStatus, StartResult } from "../contract/host-protocol.ts";
import { Activity } from "./activity.ts";
import type { KeptEnd } from "./ends.ts";
import type { ProcessTable } from "./processes.ts";
import type { Container } from "./runtime.ts";

/** What is known of one container on this machine, from its start on. */
export interface Entry {
  readonly sandboxId: string;
  readonly generation: number;
  /** Settles with the start; `undefined` as the container means that there will be none. */
  started: Promise<{ result: StartResult; container: Container | undefined }>;
  container: Container | undefined;
  processes: ProcessTable | undefined;
  exit: ContainerExit | undefined;
  readonly activity: Activity;
  isDeleted: boolean;
  isPastDeadline: boolean;
  cancelTimer: () => void;
  released: Promise<void> | undefined;
}

export function newEntry(sandboxId: string, generation: number): Entry {
  return {
    sandboxId,
    generation,
    started: undefined as never,
    container: undefined,
    processes: undefined,
    exit: undefined,
    activity: new Activity(),
    isDeleted: false,
    isPastDeadline: false,
    cancelTimer: () => {},
    released: undefined,
  };
}

/** Of a container that has ended and is no more. */
export function endedEntry({ sandboxId, generation, exit }: KeptEnd): Entry {
  const entry = newEntry(sandboxId, generation);
  entry.started = Promise.resolve({ result: { kind: "adopted", published_ports: {} }, container: undefined });
  entry.exit = exit;
  return entry;
}

/** As the control plane is told. */
export function statusOf({ generation, exit, activity }: Entry): ContainerStatus {
  if (exit) return { kind: "exited", generation, exit };
  return { kind: "running", generation, busy: activity.isBusy, idle_ms: activity.idleMs };
}
