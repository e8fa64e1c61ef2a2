import type { ContainerExit } from "../contract/host-protocol.ts";
import { KILLED_RETURNCODE, signalOfReturncode } from "../contract/process.ts";
import { isLive, type FinishReason, type SandboxState } from "../contract/sandbox.ts";

/** Everything that can happen to a sandbox. */
export type Happening =
  | { kind: "scheduled" }
  | { kind: "started" }
  | { kind: "ready" }
  | { kind: "container_exited"; exit: ContainerExit }
  | { kind: "terminate" }
  | { kind: "lifetime_over" }
  | { kind: "idle_over" }
  | { kind: "start_failed"; error: string }
  | { kind: "no_capacity"; error: string }
  | { kind: "host_lost"; error: string };

/** How a sandbox ended; written once. */
export interface End {
  finishReason: FinishReason;
  returncode: number | null;
  error?: string;
}

export type Transition =
  | { kind: "moved"; state: SandboxState }
  | { kind: "ended"; state: "finished" | "terminated"; end: End }
  /** The event changes nothing: it is late, or it repeats what is so. */
  | { kind: "ignored" };

const IGNORED: Transition = { kind: "ignored" };

const TIMED_OUT = 124;

const ORDER: readonly SandboxState[] = ["created", "scheduled", "started", "ready"];

/**
 * Decides every transition. The states before the end go one way; the first end wins and every event
 * after it is ignored.
 */
export function transition(state: SandboxState, event: Happening): Transition {
  if (!isLive(state)) return IGNORED;
  switch (event.kind) {
    case "scheduled":
      // Placed again after a host did not answer: the sandbox stays where it is.
      return advance(state, "scheduled");
    case "started":
      return advance(state, "started");
    case "ready":
      return state === "started" ? { kind: "moved", state: "ready" } : IGNORED;
    case "container_exited":
      return fromExit(event.exit);
    case "terminate":
      return terminated("terminated", KILLED_RETURNCODE);
    case "lifetime_over":
      return terminated("timeout", TIMED_OUT);
    case "idle_over":
      return terminated("idle_timeout", KILLED_RETURNCODE);
    case "start_failed":
    case "no_capacity":
      // A container that has started did not fail to start: the result is late.
      return hasStarted(state) ? IGNORED : terminated(event.kind, null, event.error);
    case "host_lost":
      return terminated("host_lost", null, event.error);
  }
}

function advance(from: SandboxState, to: SandboxState): Transition {
  return ORDER.indexOf(from) < ORDER.indexOf(to) ? { kind: "moved", state: to } : IGNORED;
}

export function hasStarted(state: SandboxState): boolean {
  return state === "started" || state === "ready";
}

function terminated(finishReason: FinishReason, returncode: number | null, error?: string): Transition {
  return {
    kind: "ended",
    state: "terminated",
    end: { finishReason, returncode, ...(error !== undefined && { error }) },
  };
}

function fromExit(exit: ContainerExit): Transition {
  if (exit.deadline) return terminated("timeout", TIMED_OUT);
  const finishReason = exit.oom ? "oom" : signalOfReturncode(exit.returncode) ? "signaled" : "exited";
  return {
    kind: "ended",
    state: "finished",
    end: { finishReason, returncode: exit.oom ? KILLED_RETURNCODE : exit.returncode },
  };
}
