import { decodeJwt } from "jose";
import { setTimeout as sleep } from "node:timers/promises";
import { VOLUME_GRANT_LIFETIME_S } from "../../contract/volume-sync.ts";
import { SyncError } from "./client.ts";
import { CommitFailure } from "./commit.ts";
import type { Mount } from "./mount.ts";
import { NotStored } from "./not-stored.ts";

const FIRST_PAUSE_MS = 2_000;
const LAST_PAUSE_MS = 300_000;
/** How long what cannot be read, as where a disk fails, is tried again. */
const UNREADABLE_MS = 3_600_000;

/**
 * Stores what a sandbox wrote last, and then removes its mount: at once, or as soon as the bucket takes it. What cannot be stored
 * as long as the grant lasts is lost, and is said to be. Never rejects; nothing happens any more once it is aborted.
 */
export async function storeLast(mount: Mount, signal: AbortSignal, firstPauseMs = FIRST_PAUSE_MS): Promise<void> {
  const giveUpAt = endOfGrant(mount.spec.token);
  const readableBy = Date.now() + UNREADABLE_MS;
  for (let pauseMs = firstPauseMs; !signal.aborted; pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS)) {
    try {
      if (!mount.spec.read_only) await mount.commit();
      return await removed(mount);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const isLost = isOfNoVolume(error) || (isUnreadable(error) && Date.now() >= readableBy);
      if (isLost || Date.now() >= giveUpAt) {
        console.error(`sandbar host: LOST, for nobody takes it any more: ${message} (${mount.folder})`);
        return removed(mount);
      }
      if (pauseMs === firstPauseMs)
        console.error(`sandbar host: kept in ${mount.folder} until it can be stored: ${message}`);
    }
    await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

async function removed(mount: Mount): Promise<void> {
  await mount.remove().catch((error: unknown) => {
    console.error(`sandbar host: ${mount.folder} could not be removed:`, String(error));
  });
}

/** All else is stored: this daemon cannot read what is left. */
const isUnreadable = (error: unknown): boolean => error instanceof NotStored && error.cause === undefined;

/** Nothing of it can ever be stored: there is no volume any more. */
function isOfNoVolume(error: unknown): boolean {
  if (!(error instanceof NotStored)) return false;
  const { cause } = error;
  const from = cause instanceof CommitFailure ? cause.cause : cause;
  return from instanceof SyncError && from.status === 404 && from.code === "volume_not_found";
}

/** Milliseconds since 1970. */
function endOfGrant(token: string): number {
  try {
    const { exp } = decodeJwt(token);
    if (exp !== undefined) return exp * 1000;
  } catch {
    // Not one of ours: it counts from now.
  }
  return Date.now() + VOLUME_GRANT_LIFETIME_S * 1000;
}
