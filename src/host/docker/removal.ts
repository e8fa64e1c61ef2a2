import { setTimeout as sleep } from "node:timers/promises";
import { type Engine, EngineError } from "./engine.ts";
import { removeNamelessSnapshot } from "./images.ts";

const GIVE_UP_MS = 60_000;
const RETRY_MS = 100;
const ANEW_MS = 5_000;

/** Kills and removes a container and returns when it is gone. One that is not there is gone. */
export async function removeContainer(engine: Engine, nameOrId: string): Promise<void> {
  const info = await engine.inspect(nameOrId).catch(ifMissing);
  if (!info) return;
  const giveUpAt = Date.now() + GIVE_UP_MS;
  for (;;) {
    try {
      await engine.remove(info.Id);
      break;
    } catch (error) {
      if (isStatus(error, 404)) break;
      // 409: another removal is under way; 500: a mount is busy for a moment more.
      if (!(isStatus(error, 409) || isStatus(error, 500)) || Date.now() > giveUpAt) throw error;
      await sleep(RETRY_MS);
    }
  }
  await removeNamelessSnapshot(engine, info.Image);
}

/** The same until it has succeeded, however long that takes. */
export async function removeForSure(engine: Engine, nameOrId: string): Promise<void> {
  for (;;) {
    try {
      return await removeContainer(engine, nameOrId);
    } catch (error) {
      console.error(`sandbar host: ${nameOrId} cannot be removed yet:`, String(error));
      await sleep(ANEW_MS);
    }
  }
}

function isStatus(error: unknown, status: number): boolean {
  return error instanceof EngineError && error.status === status;
}

function ifMissing(error: unknown): undefined {
  if (!isStatus(error, 404)) throw error;
}
