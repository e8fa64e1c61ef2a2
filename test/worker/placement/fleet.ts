import type { GpuDevice } from "../../../src/contract/gpu.ts";
import type { WarmSpec } from "../../../src/contract/host-protocol.ts";
import type { HostReport } from "../../../src/contract/host-report.ts";
import type { Sandbox } from "../../../src/contract/sandbox.ts";
import { call, hostInfo, reportHost } from "../client.ts";
import { getSandbox } from "../sandboxes.ts";

/** The id of a host of these tests, by a letter. */
export const hostId = (letter: string) => `ho-${letter.repeat(22)}`;

export interface HostOptions {
  cpu?: number;
  memory?: number;
  /** So many of a type. */
  gpus?: [type: string, count: number];
  region?: string;
  labels?: Record<string, string>;
  warmPools?: boolean;
  volumes?: boolean;
  networkRules?: boolean;
}

export function devices(letter: string, type: string, count: number): GpuDevice[] {
  return Array.from({ length: count }, (_, index) => ({
    uuid: `GPU-${letter}${index}`,
    type,
    name: `NVIDIA ${type}`,
    memory: 81_559,
  }));
}

/** What a host of these tests reports. */
export function reportOf(letter: string, options: HostOptions = {}, rest: Partial<HostReport> = {}): HostReport {
  const { cpu = 8, memory = 16_384, gpus, region, labels, warmPools = false, volumes = false } = options;
  const { networkRules = false } = options;
  const info = hostInfo(hostId(letter));
  return {
    url: "http://127.0.0.1:9",
    containers: [],
    ...rest,
    info: {
      ...info,
      capabilities: {
        ...info.capabilities,
        gpu: gpus !== undefined,
        ...(warmPools && { warm_pools: true }),
        ...(volumes && { volumes: true }),
        ...(networkRules && { block_network: true, network_rules: true, egress_headers: true }),
        ...(region !== undefined && { regions: [region] }),
      },
      capacity: { cpu, cpu_overcommit: 1, memory, disk: 100_000, gpus: gpus ? devices(letter, ...gpus) : [] },
      ...(region !== undefined && { region }),
      ...(labels && { labels }),
    },
  };
}

/** Has it report, now or at another time. */
export const report = (
  letter: string,
  options?: HostOptions,
  rest?: Partial<HostReport>,
  at?: number,
): Promise<WarmSpec[] | undefined> => reportHost(reportOf(letter, options, rest), at);

export async function create(json: object, key?: string): Promise<string> {
  const response = await call("POST", "/v1/sandboxes", { json, ...(key !== undefined && { key }) });
  if (response.status !== 201) throw new Error(await response.text());
  return ((await response.json()) as Sandbox).sandbox_id;
}

/** Which of these have started. */
export async function started(ids: readonly string[]): Promise<string[]> {
  const states = await Promise.all(ids.map(async (id) => [id, (await getSandbox(id)).state] as const));
  return states.filter(([, state]) => state === "ready").map(([id]) => id);
}
