import type { IncomingMessage } from "node:http";
import { BODY_HEADER, BODY_LENGTH_HEADER } from "../../contract/body-apart.ts";
import { ApiError } from "../../contract/errors.ts";
import { requireEntry } from "../inbound.ts";
import { forwardRequest, forwardUpgrade, type BodyApart } from "../proxy.ts";
import type { Container } from "../runtime.ts";
import type { Handler, HostContext, UpgradeHandler } from "./route.ts";

export const proxyRequest: Handler = async ({ host, request, response }, sandboxId, port) => {
  const body = bodyApart(host, request, `${sandboxId}/${port}`);
  try {
    await host.containers.use(
      sandboxId!,
      async (container, { moved }) => {
        requireClient(host, container, request);
        await forwardRequest(container, Number(port), request, response, moved, body);
      },
      host.tunnelQuietMs,
    );
  } finally {
    body?.from.close();
  }
};

/** The same for a request that asks to upgrade. */
export const proxyUpgrade: UpgradeHandler = async ({ host, request, socket, head }, sandboxId, port) => {
  await host.containers.use(
    sandboxId!,
    async (container, { moved }) => {
      requireClient(host, container, request);
      await forwardUpgrade(container, Number(port), request, socket, head, moved);
    },
    host.tunnelQuietMs,
  );
};

/** The body of a request that is to follow. */
export const takeBody: UpgradeHandler = async ({ host, socket, head }, sandboxId, port, id) => {
  await host.containers.running(sandboxId!);
  host.bodies.take(`${sandboxId}/${port}/${id}`, socket, head);
};

/** The body that the request says comes by itself. */
function bodyApart({ bodies }: HostContext, request: IncomingMessage, of: string): BodyApart | undefined {
  const id = headerOf(request, BODY_HEADER);
  if (id === undefined) return undefined;
  const length = headerOf(request, BODY_LENGTH_HEADER);
  if (length !== undefined && !/^\d{1,15}$/.test(length)) {
    throw new ApiError("invalid_request", { detail: `${BODY_LENGTH_HEADER} must be a number of bytes.` });
  }
  return { from: bodies.claim(`${of}/${id}`), length: length === undefined ? undefined : Number(length) };
}

function requireClient({ networks }: HostContext, container: Container, request: IncomingMessage): void {
  requireEntry(networks, container, headerOf(request, "x-sandbar-client"));
}

function headerOf({ headers }: IncomingMessage, name: string): string | undefined {
  const value = headers[name];
  return typeof value === "string" ? value : undefined;
}
