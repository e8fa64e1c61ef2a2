import { ApiError } from "../contract/errors.ts";
import type { StartResult, StartSpec } from "../contract/host-protocol.ts";
import type { Entry } from "./container-entry.ts";
import type { GpuLedger } from "./gpu-ledger.ts";
import type { Networks } from "./network/networks.ts";
import { withTrust } from "./network/trust.ts";
import { release, releaseSoon, STOP_TIMEOUT_MS } from "./release.ts";
import { StartFailure, type Container, type Runtime } from "./runtime.ts";
import { tooSlow, unavailable, withTimeLimit } from "./time-limit.ts";
import type { Volumes } from "./volumes/volumes.ts";

const START_TIMEOUT_MS = 15 * 60_000;

export interface Launch {
  runtime: Pick<Runtime, "start">;
  gpus: GpuLedger;
  volumes: Volumes;
  networks: Networks;
  spec: StartSpec;
  entry: Entry;
  /** The one of this sandbox that it replaces. */
  older: Entry | undefined;
}

/**
 * Starts a container in the place of an older one of its sandbox, with the devices that are to be its own, its volumes mounted and its network held to its policy. One that comes up after
 * its time is ended.
 */
export async function launch({ runtime, gpus, volumes, networks, spec, entry, older }: Launch): Promise<Container> {
  const starting = (async () => {
    if (older) {
      older.isDeleted = true;
      await withTimeLimit(release(older), STOP_TIMEOUT_MS, tooSlow("Stopping the container"));
      older.processes?.remove();
    }
    const free = gpus.take(entry, spec.gpus ?? []);
    entry.onGone = () => {
      free();
      networks.release(entry);
    };
    try {
      const binds = spec.volumes ? await volumes.prepare(entry, spec.volumes) : [];
      entry.lastCommit = volumes.lastCommitOf(entry);
      return await runtime.start(withTrust(spec), binds, networks.preparing(spec));
    } catch (error) {
      entry.onGone();
      await entry.lastCommit?.();
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

/** What is told of a start that can never be; throws what another may undo. */
export function failedStart(error: unknown): StartResult {
  if (error instanceof ApiError) throw error;
  if (!(error instanceof StartFailure)) throw unavailable("The container could not be started.", error);
  return { kind: "failed", error: error.message };
}
