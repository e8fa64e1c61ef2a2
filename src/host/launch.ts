import type { StartSpec } from "../contract/host-protocol.ts";
import type { Entry } from "./container-entry.ts";
import { release, STOP_TIMEOUT_MS } from "./release.ts";
import { StartFailure, type Container, type Runtime } from "./runtime.ts";
import { tooSlow, withTimeLimit } from "./time-limit.ts";

const START_TIMEOUT_MS = 15 * 60_000;

/** Starts a container in the place of an older one of its sandbox. One that comes up after its time is ended. */
export async function launch(runtime: Runtime, spec: StartSpec, older: Entry | undefined): Promise<Container> {
  const starting = (async () => {
    if (older) {
      older.isDeleted = true;
      await withTimeLimit(release(older), STOP_TIMEOUT_MS, tooSlow("Stopping the container"));
      older.processes?.remove();
    }
    return runtime.start(spec);
  })();
  const late = () => new StartFailure("The container did not start in time.");
  try {
    return await withTimeLimit(starting, START_TIMEOUT_MS, late);
  } catch (error) {
    void starting.then((container) => container.stop()).catch(() => {});
    throw error;
  }
}
