import { CidrSet, parseAddress } from "../../contract/cidr.ts";
import type { NetworkPolicy } from "../../contract/network.ts";
import type { Wiring } from "./rules.ts";
import { endConnections, type OpenSocket } from "./open-sockets.ts";

/** Ends the connections of a container that the kernel holds and the rules now forbid: their packets go nowhere, but nobody is told so. */
export function endForbidden(namespace: number, policy: NetworkPolicy, wiring: Wiring): void {
  endConnections(namespace, (sockets) => forbidden(sockets, policy, wiring));
}

/** Those of the gate are the gate's to end; those to the container itself are nobody's. */
export function forbidden(
  sockets: readonly OpenSocket[],
  { outbound, inbound_cidrs: inbound }: NetworkPolicy,
  { gate, rawPorts }: Pick<Wiring, "gate" | "rawPorts">,
): OpenSocket[] {
  const listening = new Set(sockets.flatMap(({ isListening, local }) => (isListening ? [local.port] : [])));
  const throughGate = new Set(
    sockets.flatMap(({ local, remote }) =>
      local.port === gate?.tcp || local.port === gate?.dns ? [nameOf(remote)] : [],
    ),
  );
  const outwards = outbound && new CidrSet(outbound.cidrs);
  const inwards = inbound && new CidrSet(inbound);
  return sockets.filter(({ isListening, local, remote }) => {
    if (isListening || remote.address === local.address || isLoopback(local.address) || isLoopback(remote.address))
      return false;
    if (rawPorts.includes(local.port)) return inwards !== undefined && !inwards.has(remote.address);
    if (listening.has(local.port) || throughGate.has(nameOf(local))) return false;
    return outwards !== undefined && !outwards.has(remote.address);
  });
}

const nameOf = ({ address, port }: OpenSocket["local"]) => `${address} ${port}`;
const isLoopback = (address: string) => parseAddress(address)?.range() === "loopback";
