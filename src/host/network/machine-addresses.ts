import ipaddr from "ipaddr.js";
import { existsSync, readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";

/**
 * The addresses of this machine and the networks of its bridges, as ranges. Node itself names only the interfaces that have a carrier, and a
 * bridge without a container on it has none: the kernel's own tables name the others.
 */
export function machineRanges(): string[] {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return [
    ...own.map(({ address, family }) => `${bare(address)}/${family === "IPv6" ? 128 : 32}`),
    ...localIpv4(read("/proc/net/fib_trie")),
    ...ipv6Interfaces(read("/proc/net/if_inet6")).flatMap(({ address, prefix, name }) =>
      isBridge(name) ? [`${address}/128`, `${address}/${prefix}`] : [`${address}/128`],
    ),
    ...connectedIpv4(read("/proc/net/route")).flatMap(({ range, name }) => (isBridge(name) ? [range] : [])),
  ];
}

/** Other systems than Linux have none of these. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

const isBridge = (name: string) => existsSync(`/sys/class/net/${name}/bridge`);
const bare = (address: string) => address.replace(/%.*$/, "");

/** `|-- 192.0.2.7` and in the next line `/32 host LOCAL`. */
export function localIpv4(table: string): string[] {
  return [...table.matchAll(/\|-- (\d+\.\d+\.\d+\.\d+)\n\s*\/32 host LOCAL/g)].map(([, address]) => `${address}/32`);
}

/** `20010db8000000000000000000000001 02 40 00 80 eth0`: address, index, prefix, scope, flags, name. */
export function ipv6Interfaces(table: string): { address: string; prefix: number; name: string }[] {
  return [...table.matchAll(/^([0-9a-f]{32}) +\S+ +([0-9a-f]+) +\S+ +\S+ +(\S+)$/gm)].map(([, hex, prefix, name]) => ({
    address: ipaddr.fromByteArray([...Buffer.from(hex!, "hex")]).toString(),
    prefix: Number.parseInt(prefix!, 16),
    name: name!,
  }));
}

/** `eth0 000200C0 00000000 0001 0 0 0 00FFFFFF …`: name, destination, gateway, …, mask, in the machine's order of bytes. */
export function connectedIpv4(table: string): { range: string; name: string }[] {
  const rows = table.split("\n").map((row) => row.trim().split(/\s+/));
  return rows.flatMap(([name, destination, gateway, , , , , mask]) => {
    if (gateway !== "00000000" || mask === undefined || !/^[0-9A-F]{8}$/.test(destination!)) return [];
    const prefix = ipaddr.parse(littleEndian(mask)).prefixLengthFromSubnetMask();
    if (!prefix) return [];
    return [{ range: `${littleEndian(destination!)}/${prefix}`, name: name! }];
  });
}

const littleEndian = (hex: string) => Buffer.from(hex, "hex").toReversed().join(".");
