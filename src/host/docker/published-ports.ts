import type { ContainerInspectInfo } from "./engine.ts";

/** Raw TCP ports by container port. An engine may publish on IPv4 and IPv6 under two numbers: IPv4's is the one handed out. */
export function publishedPorts(info: ContainerInspectInfo): Record<string, number> {
  const published: Record<string, number> = {};
  for (const [name, bindings] of Object.entries(info.NetworkSettings.Ports ?? {})) {
    const binding = bindings?.find(({ HostIp }) => !HostIp.includes(":")) ?? bindings?.[0];
    if (binding) published[name.replace(/\/tcp$/, "")] = Number(binding.HostPort);
  }
  return published;
}
