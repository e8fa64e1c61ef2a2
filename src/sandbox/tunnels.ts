import type { Tunnel } from "../contract/sandbox.ts";
import type { TunnelOrigin } from "./rpc.ts";
import type { SandboxRecord } from "./store.ts";

/** How each declared port is reached: HTTP ports under the tunnel domain, raw ones on the host. */
export function tunnelsOf(record: SandboxRecord, origin: TunnelOrigin): Record<string, Tunnel> {
  const tunnels: Record<string, Tunnel> = {};
  for (const port of record.create.encrypted_ports ?? []) {
    const host = `${port}-${record.sandboxId}.${origin.domain}`;
    const isDefaultPort = origin.port === (origin.protocol === "https:" ? 443 : 80);
    tunnels[port] = {
      host,
      port: origin.port,
      url: `${origin.protocol}//${host}${isDefaultPort ? "" : `:${origin.port}`}`,
    };
  }
  const rawHost = record.placement?.kind === "host" ? new URL(record.placement.url).hostname : undefined;
  for (const [port, published] of Object.entries(record.publishedPorts)) {
    if (rawHost) tunnels[port] = { host: rawHost, port: published, url: `tcp://${rawHost}:${published}` };
  }
  return tunnels;
}
