import type { StartSpec } from "../contract/host-protocol.ts";
import type { Entry } from "./container-entry.ts";
import type { GpuLedger } from "./gpu-ledger.ts";
import { release, releaseSoon, STOP_TIMEOUT_MS } from "./release.ts";
import { StartFailure, type Container, type Runtime } from "./runtime.ts";
import { tooSlow, withTimeLimit } from "./time-limit.ts";

const START_TIMEOUT_MS = 15 * 60_000;

export interface Launch {
  runtime: Pick<Runtime, "start">;
  gpus: GpuLedger;
  spec: StartSpec;
  entry: Entry;
  /** The one of this sandbox that it replaces. */
  older: Entry | undefined;
}

/**
 * Starts a container in the place of an older one of its sandbox, with the devices that are to be its own. One that comes up after
 * its time is ended.
 */
export async function launch({ runtime, gpus, spec, entry, older }: Launch): Promise<Container> {
  const starting = (async () => {
    if (older) {
      older.isDeleted = true;
      await withTimeLimit(release(older), STOP_TIMEOUT_MS, tooSlow("Stopping the container"));
      older.processes?.remove();
    }
    entry.onGone = gpus.take(entry, spec.gpus ?? []);
    try {
      return await runtime.start(spec);
    } catch (error) {
      entry.onGone();
      throw error;
    }
  })();
  const late = () => new StartFailure("The container did not start in time.");
  try {
    return await withTimeLimit(starting, START_TIMEOUT_MS, late);
  } catch (error) {
    void starting
      .then((container) => releaseSoon(Object.assign(entry, { container, released: undefined })))
      .catch(() => {});
    throw error;
  }
}
