import { ApiError } from "../contract/errors.ts";
import type { Entry } from "./container-entry.ts";
import type { GpuLedger } from "./gpu-ledger.ts";
import type { Networks } from "./network/networks.ts";
import type { Container } from "./runtime.ts";
import type { Snapshots } from "./snapshots.ts";
import { LAST_COMMIT_MS, type Volumes } from "./volumes/volumes.ts";
import { settlesWithin, tooSlow, unavailable, withTimeLimit } from "./time-limit.ts";

/** How long one attempt to end a container may take. */
export const STOP_TIMEOUT_MS = 30_000;
const STOP_ATTEMPTS = 5;
const ANEW_MS = 60_000;

/**
 * Removes the container from the machine, whatever it takes; the entry stays. One removal at a time. One that fails is tried again
 * later, too: what is left of a container may hold devices.
 */
export function release(entry: Entry): Promise<void> {
  entry.released ??= remove(entry).catch((error: unknown) => {
    entry.released = undefined;
    setTimeout(() => releaseSoon(entry), ANEW_MS).unref();
    throw error;
  });
  return entry.released;
}

async function remove(entry: Entry): Promise<void> {
  await entry.started.catch(() => {});
  for (let attempt = 1; entry.container; attempt++) {
    try {
      await withTimeLimit(entry.container.stop(), STOP_TIMEOUT_MS, tooSlow("Stopping the container"));
      entry.onGone();
      return await entry.lastCommit?.();
    } catch (error) {
      if (attempt === STOP_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, attempt * 200));
    }
  }
}

/** The same without anybody who waits for it. */
export function releaseSoon(entry: Entry): void {
  release(entry).catch((error: unknown) => {
    console.error("sandbar host: a container could not be removed:", error);
  });
}

export interface Ledgers {
  gpus: GpuLedger;
  volumes: Volumes;
  networks: Networks;
}

/** Makes it known what a container found here holds of this machine, until nothing of it is left. */
export function holdUntilGone(entry: Entry, { gpus }: Container, ledgers: Ledgers): void {
  const free = ledgers.gpus.adopt(entry, gpus);
  entry.onGone = () => {
    free();
    ledgers.networks.release(entry);
  };
  entry.lastCommit = ledgers.volumes.lastCommitOf(entry);
}

/** For who waits for a removal: no longer than one attempt may take. */
export async function inTime(removed: Promise<void>): Promise<void> {
  await withTimeLimit(removed, STOP_TIMEOUT_MS, tooSlow("Stopping the container")).catch((error: unknown) => {
    throw error instanceof ApiError ? error : unavailable("The container could not be removed.", error);
  });
}

/** Calls back when what a container that has ended wrote last is stored, or it takes too long. */
export async function whenStored(entry: Entry, told: () => void): Promise<void> {
  entry.isEnding = true;
  await settlesWithin(release(entry), LAST_COMMIT_MS);
  told();
}

/** Keeps the filesystem of a container that is to be ended at its deadline, where that was asked for. Never throws. */
export async function keepAtDeadline(snapshots: Snapshots, container: Container): Promise<void> {
  const { endImage, sandboxId } = container;
  if (endImage === undefined) return;
  await snapshots.keepUnasked(container, endImage).catch((error: unknown) => {
    console.error(`sandbar host: the filesystem of ${sandboxId} could not be kept at its deadline:`, error);
  });
}
