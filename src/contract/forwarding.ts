/** How all of our own headers begin: no client and no app sets or sees them. */
export const OWN_PREFIX = "x-sandbar-";

/** Headers of one connection only (RFC 9110, 7.6.1). */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
]);

/** What apps believe of where a request comes from. Of a client, and of whatever it came through, none of it counts. */
const CLAIMS = new Set(["forwarded", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-real-ip"]);
const CLAIMED_PREFIXES = ["cf-", "x-forwarded-", OWN_PREFIX];

/** A header's name as apps may read it: to many `_` and `-` are the same. */
export const plainName = (name: string): string => name.toLowerCase().replaceAll("_", "-");

/** Whether the header would tell an app where the request comes from. */
export function isClaim(name: string): boolean {
  const plain = plainName(name);
  return CLAIMS.has(plain) || CLAIMED_PREFIXES.some((prefix) => plain.startsWith(prefix));
}

/** How a tunnel was called. */
export interface Caller {
  /** Its address, where that is known. */
  client: string | undefined;
  /** `http` or `https`. */
  protocol: string;
  /** The host name, with the port where it is not the scheme's own. */
  host: string;
}

/** The headers that tell an app so. */
export function forwardedHeaders({ client, protocol, host }: Caller): Record<string, string> {
  return {
    ...(client !== undefined && { "x-forwarded-for": client }),
    "x-forwarded-proto": protocol,
    "x-forwarded-host": host,
  };
}
