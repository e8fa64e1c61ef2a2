import type { HostInfo } from "../../../src/contract/host-info.ts";
import { parseGpu, type GpuWish } from "../../../src/contract/gpu.ts";
import type { Decision, Demand, FleetHost, Grant, HostClass } from "../../../src/placement/policy/model.ts";
import { Scheduler } from "../../../src/placement/policy/scheduler.ts";

export const ANY_HOST: HostClass = { key: "any", admits: () => true };

export interface Size {
  cpu?: number;
  overcommit?: number;
  memory?: number;
  /** As a user names them: `H100:8`. */
  gpu?: string;
  region?: string;
  images?: string[];
  isOpen?: boolean;
  /** It does not say what it has. */
  isBoundless?: boolean;
}

const CAPABILITIES: HostInfo["capabilities"] = {
  cpu_limit: true,
  memory_limit: true,
  gpu: true,
  raw_tcp: true,
  exec_user: true,
  pty: true,
};

export function host(hostId: string, size: Size = {}): FleetHost {
  const { cpu = 8, overcommit = 1, memory = 16_384, gpu, region, images = [], isOpen = true, isBoundless } = size;
  const devices = gpu ? wishes(gpu) : [];
  const gpus = devices.flatMap(({ type, count }) =>
    Array.from({ length: count }, (_, at) => ({ uuid: `GPU-${hostId}-${type}-${at}`, type, name: type, memory: 1 })),
  );
  const info: HostInfo = {
    host_id: hostId,
    version: "1",
    runtime: "docker",
    default_image: "debian",
    capabilities: CAPABILITIES,
    ...(isBoundless ? {} : { capacity: { cpu, cpu_overcommit: overcommit, memory, disk: 1, gpus } }),
    ...(region === undefined ? {} : { region }),
  };
  return { hostId, info, isOpen, images: new Set(images) };
}

export interface Ask {
  environment?: string;
  cpu?: number;
  memory?: number;
  gpu?: string;
  image?: string;
  hosts?: HostClass;
  since?: number;
}

export function demand(id: string, ask: Ask = {}): Demand {
  const { environment = "main", cpu = 1, memory = 1024, gpu, image = "debian", hosts = ANY_HOST, since = 0 } = ask;
  return { id, environment, cpu, memory, gpus: gpu ? wishes(gpu) : [], image, hosts, since };
}

export const inRegion = (region: string): HostClass => ({
  key: `region ${region}`,
  admits: (info) => info.region === region,
});

export const onlyOn = (hostId: string): HostClass => ({ key: `only`, admits: () => true, onlyHost: hostId });

function wishes(gpu: string): GpuWish[] {
  const parsed = parseGpu(gpu);
  if (typeof parsed === "string") throw new Error(parsed);
  return parsed;
}

export function schedulerOf(...hosts: FleetHost[]): Scheduler {
  const scheduler = new Scheduler({ perEnvironment: 1000, total: 10_000 });
  for (const one of hosts) scheduler.putHost(one);
  return scheduler;
}

/** The grant, where it was granted. */
export function grantOf(decision: Decision): Grant {
  if (decision.kind !== "granted") throw new Error(`was ${decision.kind}`);
  return decision.grant;
}

/** A small generator of numbers in [0, 1): the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
