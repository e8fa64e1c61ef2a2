import { MAIN_PROCESS_ID } from "../contract/ids.ts";
import type { ProcessStatus } from "../contract/host-protocol.ts";
import {
  KILLED_RETURNCODE,
  signalOfReturncode,
  type ContainerProcess,
  type ProcessFinishReason,
} from "../contract/process.ts";
import type { End } from "./machine.ts";

/** The process as recorded before it was started; what changes later is asked from the backend. */
export interface ProcessRecord {
  processId: string;
  command: string[];
  createdAt: number;
  /** False until the backend has said that it has it: one that was never heard of may not have been started at all. */
  isConfirmed: boolean;
  /** Of the request, where it came with an idempotency key. */
  requestHash?: string;
  /** The last that was seen of it, final once it has a return code. */
  last: LastSeen;
}

type LastSeen = Pick<
  ContainerProcess,
  "returncode" | "timed_out" | "finish_reason" | "stdout_bytes" | "stderr_bytes"
> & { exitedAt?: number };

/** A process that has ended. */
export type EndedProcess = ProcessRecord & { last: { returncode: number; finish_reason: ProcessFinishReason } };

/** The record of a process that is about to start. */
export function newProcess(processId: string, command: string[], createdAt: number): ProcessRecord {
  const last = { returncode: null, timed_out: false, stdout_bytes: 0, stderr_bytes: 0 };
  return { processId, command, createdAt, isConfirmed: false, last };
}

export function hasEnded(process: ProcessRecord): process is EndedProcess {
  return process.last.returncode !== null;
}

/** The record with what the backend says of the process. */
export function withStatus(process: ProcessRecord, status: ProcessStatus): ProcessRecord {
  const reason = reasonOf(status);
  const last: LastSeen = {
    returncode: status.returncode,
    timed_out: status.timed_out,
    ...(reason !== undefined && { finish_reason: reason }),
    stdout_bytes: status.stdout_bytes,
    stderr_bytes: status.stderr_bytes,
    ...(status.exited_at !== undefined && { exitedAt: status.exited_at }),
  };
  return { ...process, isConfirmed: true, last };
}

function reasonOf({ returncode, timed_out, finish_reason }: ProcessStatus): ProcessFinishReason | undefined {
  if (returncode === null) return undefined;
  if (finish_reason) return finish_reason;
  if (timed_out) return "timeout";
  return signalOfReturncode(returncode) ? "signaled" : "exited";
}

/** The record of a process that its host does not know any more. */
export function lost(process: ProcessRecord, now: number): ProcessRecord {
  return {
    ...process,
    last: { ...process.last, returncode: KILLED_RETURNCODE, finish_reason: "host_lost", exitedAt: now },
  };
}

/** The record of a process that went down with its sandbox. The entrypoint's end is the sandbox's own. */
export function endedWithSandbox(process: ProcessRecord, end: End, finishedAt: number): ProcessRecord {
  const byOutside = end.finishReason === "host_lost" ? ("host_lost" as const) : ("sandbox_ended" as const);
  const isMain = process.processId === MAIN_PROCESS_ID;
  const isOwn = end.finishReason === "exited" || end.finishReason === "signaled" || end.finishReason === "oom";
  return {
    ...process,
    last: {
      ...process.last,
      returncode: (isMain ? end.returncode : undefined) ?? KILLED_RETURNCODE,
      finish_reason: isMain && isOwn ? (end.finishReason as ProcessFinishReason) : byOutside,
      exitedAt: finishedAt,
    },
  };
}
