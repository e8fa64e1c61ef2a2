import { CidrSet } from "../contract/cidr.ts";
import { ApiError } from "../contract/errors.ts";
import type { NetworkPolicy } from "../contract/network.ts";
import type { Start } from "./start-files.ts";

/** What knows the rules of every container's network on this machine. */
export interface Policies {
  /** Undefined where there are none. */
  policyOf(start: Start): NetworkPolicy | undefined;
}

/** Refuses an address that the container's rules keep out; where they name any, also one that nobody knows. Throws `forbidden`. */
export function requireEntry(policies: Policies, start: Start, address: string | undefined): void {
  const allowed = policies.policyOf(start)?.inbound_cidrs;
  if (!allowed || (address !== undefined && new CidrSet(allowed).has(address))) return;
  throw new ApiError("forbidden", { detail: `The sandbox is not reached from ${address ?? "an unknown address"}.` });
}
