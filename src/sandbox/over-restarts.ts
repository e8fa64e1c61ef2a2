import { hasCode } from "../contract/errors.ts";
import type { HostLink } from "./host-link.ts";

/** How long a host may be away before who waits is told so: its daemon is back from a restart well within it. */
const AWAY_MS = 5_000;
const RETRY_MS = 300;

/**
 * Asks a host something that may be asked again, such as to start the process of an id: over a restart of its daemon, and at
 * the address where it is back. Throws `backend_unavailable` once the host has been away for a while.
 */
export async function overRestarts<T>(host: HostLink, now: () => number, ask: () => Promise<T>): Promise<T> {
  for (let awaySince: number | undefined; ;) {
    try {
      return await ask();
    } catch (error) {
      if (!hasCode(error, "backend_unavailable")) throw error;
      awaySince ??= now();
      if (now() - awaySince >= AWAY_MS) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      await host.relocate().catch(() => undefined);
    }
  }
}
