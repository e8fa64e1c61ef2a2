import type { HostInfo } from "../contract/host-info.ts";
import type { Inventory } from "./inventory/inventory.ts";
import type { Runtime } from "./runtime.ts";

/** What an operator says of the machine. */
export interface HostFacts {
  hostId: string;
  version: string;
  region?: string | undefined;
  labels?: Record<string, string> | undefined;
}

/** What a host says of itself; what changes with the machine is as it is when it is read. */
export function hostInfo(
  { hostId, version, region, labels }: HostFacts,
  runtime: Runtime,
  inventory: Inventory,
): HostInfo {
  const { kind, defaultImage, capabilities } = runtime;
  const regions = [...new Set([...(capabilities.regions ?? []), ...(region === undefined ? [] : [region])])];
  return {
    host_id: hostId,
    version,
    runtime: kind,
    default_image: defaultImage,
    get capabilities() {
      return { ...capabilities, gpu: inventory.givesGpus, ...(regions.length > 0 && { regions }) };
    },
    get capacity() {
      return inventory.capacity;
    },
    ...(region !== undefined && { region }),
    ...(labels && { labels }),
  };
}
