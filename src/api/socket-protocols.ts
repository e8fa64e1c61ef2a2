import { ATTACH_PROTOCOL, BEARER_PROTOCOL_PREFIX } from "../contract/attach.ts";
import { ApiError } from "../contract/errors.ts";

/** The subprotocols that a client offers. */
function offered(header: string | undefined): string[] {
  return (header ?? "").split(",").flatMap((one) => one.trim() || []);
}

/** True when the request asks to become a WebSocket. */
export function isUpgrade(request: Request): boolean {
  return request.headers.get("upgrade")?.toLowerCase() === "websocket";
}

/** The `Authorization` that a browser's socket carries as a subprotocol, since it sets no headers. */
export function authorizationOf(request: Request): string | undefined {
  if (!isUpgrade(request)) return undefined;
  const protocols = offered(request.headers.get("sec-websocket-protocol") ?? undefined);
  const bearer = protocols.find((one) => one.startsWith(BEARER_PROTOCOL_PREFIX));
  if (bearer === undefined) return undefined;
  try {
    const base64 = bearer.slice(BEARER_PROTOCOL_PREFIX.length).replaceAll("-", "+").replaceAll("_", "/");
    return `Bearer ${atob(base64)}`;
  } catch {
    return "Bearer";
  }
}

/** The subprotocol to select: ours, or none for a client that offers none. Throws when ours is not among those offered. */
export function selectProtocol(header: string | undefined): string | undefined {
  const protocols = offered(header);
  if (protocols.length === 0) return undefined;
  if (protocols.includes(ATTACH_PROTOCOL)) return ATTACH_PROTOCOL;
  throw new ApiError("invalid_request", { detail: `Of the subprotocols offered one must be ${ATTACH_PROTOCOL}.` });
}
