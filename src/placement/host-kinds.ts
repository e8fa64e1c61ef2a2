import type { HostInfo } from "../contract/host-info.ts";
import type { HostKind } from "./judge.ts";

/** What kinds there are among hosts, each once, those with a container engine first. */
export function kindsOf(hosts: readonly HostInfo[]): HostKind[] {
  const kinds = new Map<string, HostKind>();
  for (const info of hosts) {
    const { host_id: _, version: __, capacity: ___, ...kind } = info;
    const key = JSON.stringify(kind);
    if (!kinds.has(key)) kinds.set(key, info);
  }
  return [...kinds.values()].toSorted((a, b) => Number(b.runtime === "docker") - Number(a.runtime === "docker"));
}
