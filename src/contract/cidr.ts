import ipaddr from "ipaddr.js";
import { z } from "zod";

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** A range of addresses: `192.0.2.0/24`, `2001:db8::/32`. Bits behind the prefix are of no account. */
export const CidrSchema = z
  .union([z.cidrv4(), z.cidrv6()], {
    error: "must be a range of addresses, such as 192.0.2.0/24 or 2001:db8::/32; a single one is 192.0.2.1/32",
  })
  // No packet has such an address: the range would hold nothing.
  .refine((cidr) => !isMapped(cidr), "must be written as a range of IPv4, such as 192.0.2.0/24");

const MAX_CIDRS = 100;
export const CidrsSchema = z.array(CidrSchema).max(MAX_CIDRS);

/** An address as it counts: one of IPv4 that is written as IPv6 is one of IPv4. Undefined of what is no address. */
export function parseAddress(text: string): Address | undefined {
  // A zone names an interface, which no range does.
  const bare = text.replace(/%.*$/, "");
  return ipaddr.isValid(bare) ? ipaddr.process(bare) : undefined;
}

/** Whether it is a range of IPv4 that is written as IPv6. */
function isMapped(cidr: string): boolean {
  const [address] = ipaddr.parseCIDR(cidr);
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress();
}

/** Ranges of addresses. */
export class CidrSet {
  readonly #ranges: readonly [Address, number][];

  constructor(cidrs: readonly string[]) {
    this.#ranges = cidrs.map((cidr) => ipaddr.parseCIDR(cidr));
  }

  /** False of what is no address. */
  has(address: string): boolean {
    const parsed = parseAddress(address);
    if (!parsed) return false;
    return this.#ranges.some((range) => parsed.kind() === range[0].kind() && parsed.match(range as [never, number]));
  }
}
