import { hostIdOf } from "../backends/backend.ts";
import type { HostLink } from "./host-link.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { SnapshotAnswer } from "./rpc.ts";

/** Takes snapshots: of one image id once at a time, however often it is asked for meanwhile. */
export class Snapshots {
  readonly #lifecycle: Lifecycle;
  readonly #host: HostLink;
  readonly #underWay = new Map<string, Promise<SnapshotAnswer>>();

  constructor(lifecycle: Lifecycle, host: HostLink) {
    this.#lifecycle = lifecycle;
    this.#host = host;
  }

  take(imageId: string): Promise<SnapshotAnswer> {
    const taking =
      this.#underWay.get(imageId) ??
      this.#take(imageId).finally(() => {
        this.#underWay.delete(imageId);
      });
    this.#underWay.set(imageId, taking);
    return taking;
  }

  async #take(imageId: string): Promise<SnapshotAnswer> {
    const backend = await this.#host.running();
    const hostId = hostIdOf(this.#lifecycle.record!.placement);
    const { size, snapshotId } = await backend.snapshot(imageId);
    return { size, hostId, snapshotId };
  }
}
