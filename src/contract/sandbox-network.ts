import { namesDomain, type EgressHeader, type NetworkPolicy } from "./network.ts";

/** What of a sandbox says how its network is. */
export interface NetworkFields {
  block_network?: boolean | undefined;
  outbound_cidr_allowlist?: string[] | undefined;
  outbound_domain_allowlist?: string[] | undefined;
  inbound_cidr_allowlist?: string[] | undefined;
  unencrypted_ports?: number[] | undefined;
  egress_headers?: EgressHeader[] | undefined;
}

/** A change of it: null takes a list away. */
export interface NetworkPatch {
  block_network?: boolean | undefined;
  outbound_cidr_allowlist?: string[] | null | undefined;
  outbound_domain_allowlist?: string[] | null | undefined;
  inbound_cidr_allowlist?: string[] | null | undefined;
}

export const NETWORK_PATCH_FIELDS = [
  "block_network",
  "outbound_cidr_allowlist",
  "outbound_domain_allowlist",
  "inbound_cidr_allowlist",
] as const satisfies (keyof NetworkPatch)[];

/** Where it may connect to; undefined for everywhere. With one list given the other allows nothing. */
export function outboundOf(fields: NetworkFields): NetworkPolicy["outbound"] {
  const { outbound_cidr_allowlist: cidrs, outbound_domain_allowlist: domains } = fields;
  if (fields.block_network) return { cidrs: [], domains: [] };
  return (cidrs ?? domains) && { cidrs: cidrs ?? [], domains: domains ?? [] };
}

/** The rules that its host is to hold; undefined for none. Who may call its tunnels is checked here, and there once more. */
export function networkPolicyOf(fields: NetworkFields, headers?: NetworkPolicy["headers"]): NetworkPolicy | undefined {
  const outbound = outboundOf(fields);
  const inbound = fields.inbound_cidr_allowlist;
  if (!outbound && !inbound && !headers?.length) return undefined;
  return {
    ...(outbound && { outbound }),
    ...(inbound && { inbound_cidrs: inbound }),
    ...(headers?.length && { headers }),
  };
}

/** The fields as they are once they are changed: a list of what it may connect to lets it connect again. */
export function withNetworkPatch<Fields extends NetworkFields>(before: Fields, patch: NetworkPatch): Fields {
  const after: NetworkFields = { ...before };
  const isListed = Boolean(patch.outbound_cidr_allowlist ?? patch.outbound_domain_allowlist);
  if (isListed && before.block_network) delete after.block_network;
  if (patch.block_network) {
    delete after.outbound_cidr_allowlist;
    delete after.outbound_domain_allowlist;
  }
  for (const field of NETWORK_PATCH_FIELDS) {
    const value = patch[field];
    if (value === null) delete after[field];
    else if (value !== undefined) Object.assign(after, { [field]: value });
  }
  return after as Fields;
}

/** The places, in their list, of the headers for domains that it may not connect to. Which domains are at an address nobody knows. */
export function headersOutOfReach(fields: NetworkFields): number[] {
  const outbound = outboundOf(fields);
  if (!outbound || outbound.cidrs.length > 0) return [];
  const headers = fields.egress_headers ?? [];
  return headers.flatMap(({ domain }, at) => (namesDomain(outbound.domains, domain) ? [] : [at]));
}
