import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { requireEntry } from "../inbound.ts";
import { forwardRequest, forwardUpgrade } from "../proxy.ts";
import type { Container } from "../runtime.ts";
import type { Handler, HostContext } from "./route.ts";

export const proxyRequest: Handler = async ({ host, request, response }, sandboxId, port) => {
  await host.containers.use(
    sandboxId!,
    async (container, { moved }) => {
      requireClient(host, container, request);
      await forwardRequest(container, Number(port), request, response, moved);
    },
    host.tunnelQuietMs,
  );
};

/** The same for a request that asks to upgrade. */
export async function proxyUpgrade(
  host: HostContext,
  [sandboxId, port]: string[],
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  await host.containers.use(
    sandboxId!,
    async (container, { moved }) => {
      requireClient(host, container, request);
      await forwardUpgrade(container, Number(port), request, socket, head, moved);
    },
    host.tunnelQuietMs,
  );
}

function requireClient({ networks }: HostContext, container: Container, { headers }: IncomingMessage): void {
  const client = headers["x-sandbar-client"];
  requireEntry(networks, container, typeof client === "string" ? client : undefined);
}
