import type { ContainerExit } from "../contract/host-protocol.ts";
import { newEntry, type Entry } from "./container-entry.ts";
import type { KeptEnd } from "./ends.ts";
import { holdUntilGone, releaseSoon, type Ledgers } from "./release.ts";
import type { Container } from "./runtime.ts";

const DEADLINE_RETURNCODE = 124;

/** Of a container that has ended and is no more. */
export function endedEntry({ sandboxId, generation, exit }: KeptEnd): Entry {
  const entry = newEntry(sandboxId, generation);
  entry.started = Promise.resolve({ result: { kind: "adopted", published_ports: {} }, container: undefined });
  entry.exit = exit;
  return entry;
}

/** How it has ended: at its deadline, that is all there is to say. */
export function exitOf({ isPastDeadline }: Entry, { returncode, oom }: Omit<ContainerExit, "deadline">): ContainerExit {
  if (isPastDeadline) return { returncode: DEADLINE_RETURNCODE, oom: false, deadline: true };
  return { returncode, oom, deadline: false };
}

/** Whether nothing can be done with its container any more. */
export function hasEnded(entry: Entry): boolean {
  return entry.exit !== undefined || entry.isEnding || entry.isDeleted;
}

/** True of a container that had ended, as its entry knows, and whose removal was cut off: it is removed now. */
export function removeEnded(entry: Entry | undefined, container: Container, ledgers: Ledgers): boolean {
  if (!entry?.exit || entry.generation !== container.generation) return false;
  entry.container = container;
  holdUntilGone(entry, container, ledgers);
  releaseSoon(entry);
  return true;
}
