import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "./engine-error.ts";

const RETRY_MS = 250;
/** How long an engine that is being started again is waited for. */
const GIVE_UP_MS = 120_000;

/** True of a call that no engine was there to take: it has done nothing. */
export function neverArrived(error: unknown): boolean {
  const { code } = ((error as Error).cause ?? {}) as { code?: string };
  return code === "ECONNREFUSED" || code === "ENOENT";
}

/** Asks an engine that may be away for a while until it answers. What it answers, errors too, is handed on. */
export async function patiently<T>(ask: () => Promise<T>, giveUpMs = GIVE_UP_MS): Promise<T> {
  for (const giveUpAt = Date.now() + giveUpMs; ; await sleep(RETRY_MS)) {
    try {
      return await ask();
    } catch (error) {
      const isAway = error instanceof EngineError && error.status === undefined;
      if (!isAway || Date.now() >= giveUpAt) throw error;
    }
  }
}
