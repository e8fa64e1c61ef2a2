import type { HostPlacement, Placement } from "../backends/backend.ts";
import { fixedNetwork } from "../backends/cloudflare/capabilities.ts";
import { openPlacement, type PlacementBinding } from "../placement/client.ts";
import { placingFields, type PlacementRequest, type PlacementRpc } from "../placement/rpc.ts";
import type { SandboxRecord } from "./store.ts";

/** Where the sandbox is to start, or why it is nowhere yet. */
export type Place = { place: Placement } | { why: string };

/** Where the sandbox can run, as whoever knows the hosts has it. */
export class Places {
  readonly #placement: PlacementRpc;

  constructor(env: PlacementBinding) {
    this.#placement = openPlacement(env);
  }

  /** The place that is its own, beside its object or on a host that is not `excluded`; waits so long for one. */
  async reserve(record: SandboxRecord, excluded: readonly string[], waitMs: number): Promise<Place> {
    if (record.backend !== "cloudflare") return this.#placement.reserve(requestOf(record), { excluded, waitMs });
    const snapshotId = record.place?.snapshotId;
    return { place: { kind: "cloudflare", ...(snapshotId !== undefined && { snapshotId }) } };
  }

  /** One that has not started asks for something else: see `PlacementRpc.amend`. */
  async amend(record: SandboxRecord): Promise<void> {
    if (record.backend === "cloudflare") throw fixedNetwork();
    await this.#placement.amend(requestOf(record));
  }

  /** Others may have it. */
  async release(record: SandboxRecord): Promise<void> {
    if (record.backend !== "cloudflare") await this.#placement.release(record.sandboxId);
  }

  /** Where a host is now; undefined when it is not connected. */
  locate(hostId: string): Promise<HostPlacement | undefined> {
    return this.#placement.locate(hostId);
  }

  /** See `PlacementRpc.silence`. */
  silence(hostId: string): Promise<number | undefined> {
    return this.#placement.silence(hostId);
  }
}

function requestOf({ sandboxId, environment, create, image, place, createdAt }: SandboxRecord): PlacementRequest {
  return { sandboxId, environment, create: placingFields({ ...create, image }), place, since: createdAt };
}
