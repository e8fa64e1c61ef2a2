import ipaddr from "ipaddr.js";
import { CidrSet, parseAddress } from "../../contract/cidr.ts";
import { machineRanges } from "./machine-addresses.ts";

/**
 * Where no sandbox connects to on any machine: this machine itself, what is on its links without an address of the network, and where clouds
 * keep a machine's credentials.
 */
export const FORBIDDEN_EVERYWHERE: readonly string[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "100.100.100.200/32",
  "168.63.129.16/32",
  "192.0.0.192/32",
  "224.0.0.0/4",
  "255.255.255.255/32",
  "::/128",
  "::1/128",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
  "fd00:ec2::/32",
  "fd20:ce::254/128",
  // What NAT64 of a network's own leads to is written in more ways than one.
  "64:ff9b:1::/48",
];

/** Addresses of IPv6 that lead to one of IPv4, and at which byte that is: NAT64, 6to4 and the deprecated compatible ones. */
const LEADING_TO_IPV4: readonly [string, number][] = [
  ["64:ff9b::/96", 12],
  ["2002::/16", 2],
  ["::/96", 12],
  ["::ffff:0:0:0/96", 12],
];

/** The ranges, and those of IPv6 that lead to them: for a filter that only compares. */
export function withLeading(ranges: readonly string[]): string[] {
  const leading = ranges.flatMap((range) => {
    const [address, bits] = ipaddr.parseCIDR(range);
    if (address.kind() !== "ipv4") return [];
    return LEADING_TO_IPV4.map(([prefix, at]) => {
      const bytes = ipaddr.parseCIDR(prefix)[0].toByteArray();
      bytes.splice(at, 4, ...address.toByteArray());
      return `${ipaddr.fromByteArray(bytes).toString()}/${at * 8 + bits}`;
    });
  });
  return [...ranges, ...leading];
}

const STALE_MS = 2_000;

/** The addresses that no sandbox may connect to, whatever its rules: also one that a name leads to. */
export class Forbidden {
  readonly #readRanges: () => readonly string[];
  readonly #leading = LEADING_TO_IPV4.map(([range, at]) => ({ ranges: new CidrSet([range]), at }));
  #ranges: readonly string[] = [];
  #set = new CidrSet([]);
  #readAt = Number.NEGATIVE_INFINITY;

  /** `readRanges`: those of the machine, which may change; asked again when they were read some seconds ago. */
  constructor(readRanges: () => readonly string[]) {
    this.#readRanges = readRanges;
  }

  /** Its interfaces, and the networks of its bridges: those of other containers. */
  static ofThisMachine(): Forbidden {
    return new Forbidden(machineRanges);
  }

  /** True also of what is no address. */
  has(address: string): boolean {
    const parsed = parseAddress(address);
    if (!parsed) return true;
    this.#refresh();
    if (this.#set.has(address)) return true;
    if (parsed.kind() === "ipv4") return false;
    const bytes = parsed.toByteArray();
    return this.#leading.some(
      ({ ranges, at }) =>
        ranges.has(address) && this.#set.has(ipaddr.fromByteArray(bytes.slice(at, at + 4)).toString()),
    );
  }

  /** All of them as they are now, those that lead to one of IPv4 left out. */
  ranges(): readonly string[] {
    this.#refresh();
    return this.#ranges;
  }

  #refresh(): void {
    const now = performance.now();
    if (now - this.#readAt < STALE_MS) return;
    this.#ranges = [...new Set([...FORBIDDEN_EVERYWHERE, ...this.#readRanges()])];
    this.#set = new CidrSet(this.#ranges);
    this.#readAt = now;
  }
}
