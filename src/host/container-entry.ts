import type { ContainerExit, ContainerStatus, StartResult } from "../contract/host-protocol.ts";
import type { HostReport } from "../contract/host-report.ts";
import { Activity } from "../process/activity.ts";
import type { GpuLedger } from "./gpu-ledger.ts";
import type { ProcessTable } from "./processes.ts";
import type { Container } from "./runtime.ts";
import type { Start } from "./start-files.ts";

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
  /** It has ended, and is told to have once what it wrote last is stored. */
  isEnding: boolean;
  cancelTimer: () => void;
  released: Promise<void> | undefined;
  /** Nothing of its container is left on this machine. */
  onGone: () => void;
  /** Stores what it wrote to its volumes last, and removes them here; undefined where it has none. Never rejects. */
  lastCommit: (() => Promise<void>) | undefined;
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
    isEnding: false,
    cancelTimer: () => {},
    released: undefined,
    onGone: () => {},
    lastCommit: undefined,
  };
}

/** As the control plane is told. */
export function statusOf(entry: Entry | undefined): ContainerStatus {
  if (!entry) return { kind: "gone" };
  const { generation, exit, activity } = entry;
  if (exit) return { kind: "exited", generation, exit };
  return { kind: "running", generation, busy: activity.isBusy, idle_ms: activity.idleMs };
}

export type ReportedContainers = HostReport["containers"];

/** As a report has them: also what is forgotten here, and still holds devices. */
export function reported(entries: Iterable<Entry>, gpus: GpuLedger): ReportedContainers {
  const told = (start: Start, running: boolean) => {
    const held = gpus.heldBy(start);
    const container = { sandbox_id: start.sandboxId, generation: start.generation, running };
    return held.length > 0 ? { ...container, gpus: [...held] } : container;
  };
  const known = [...entries];
  const lingering = gpus.holders().filter((holder) => !known.some((entry) => entry === holder));
  return [
    ...known.map((entry) => told(entry, entry.exit === undefined)),
    ...lingering.map((holder) => told(holder, false)),
  ];
}
