import type { Capabilities } from "../../src/contract/host-info.ts";
import type { NetworkPolicy } from "../../src/contract/network.ts";
import { HOST_ID, hostInfo, reportHost } from "./client.ts";
import { fakeHost } from "./worker.ts";

/** What a host that holds rules says that it can. */
export const RULES = { block_network: true, network_rules: true, egress_headers: true } satisfies Partial<Capabilities>;
export const CUT_OFF: NetworkPolicy = { outbound: { cidrs: [], domains: [] } };

/** The host of these tests, with abilities besides its usual ones; it reports but once. */
export async function connectHostWith(more: Partial<Capabilities>, hostId = HOST_ID): Promise<void> {
  const info = hostInfo(hostId);
  const capabilities = { ...info.capabilities, ...more };
  await reportHost({ url: "http://127.0.0.1:9", info: { ...info, capabilities }, containers: [] });
}

/** The rules that hold for a sandbox now. */
export const rulesOf = (sandboxId: string) => fakeHost.containers.get(sandboxId)!.network;
