import { ApiError } from "../contract/errors.ts";
import { forwardedHeaders, HOP_BY_HOP, isClaim, OWN_PREFIX } from "../contract/forwarding.ts";

/**
 * Headers that are for the other end whatever `Connection` says. Without its length a body would follow its request unannounced, and be one
 * more request to whoever reads it; without its host a request would be for nobody.
 */
const ALWAYS_END_TO_END = new Set(["content-length", "host"]);

/** The end-to-end headers of a raw list, names and values alternating as node has them. */
export function endToEndHeaders(raw: string[]): string[] {
  const named = new Set<string>();
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.toLowerCase() !== "connection") continue;
    for (const part of raw[i + 1]!.split(",")) {
      const name = part.trim().toLowerCase();
      if (!ALWAYS_END_TO_END.has(name)) named.add(name);
    }
  }
  const kept: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    if (HOP_BY_HOP.has(name) || named.has(name) || name.startsWith(OWN_PREFIX)) continue;
    kept.push(raw[i]!, raw[i + 1]!);
  }
  return kept;
}

/** What the control plane says of a request that it hands on. */
export interface HandedOn {
  /** The host name that the user called. */
  host: string | undefined;
  /** The scheme, and the address of who called, where they are known. */
  protocol: string | undefined;
  client: string | undefined;
  signedInAuthorization: boolean;
  /** The body comes by itself: what the request says of its length is not true of that. */
  isBodyApart: boolean;
}

/** The headers that the sandbox's app gets: those of the user, and of where it comes from what the control plane says alone. */
export function headersForApp(raw: string[], handedOn: HandedOn): string[] {
  const { host, protocol, client, signedInAuthorization, isBodyApart } = handedOn;
  const headers: string[] = [];
  const kept = endToEndHeaders(raw);
  for (let i = 0; i < kept.length; i += 2) {
    const name = kept[i]!.toLowerCase();
    if (name === "host" && host !== undefined) continue;
    if (name === "authorization" && signedInAuthorization) continue;
    if (name === "content-length" && isBodyApart) continue;
    if (isClaim(name)) continue;
    headers.push(kept[i]!, kept[i + 1]!);
  }
  if (host !== undefined) headers.push("Host", host);
  if (host !== undefined && protocol !== undefined)
    headers.push(...Object.entries(forwardedHeaders({ client, protocol, host })).flat());
  return headers;
}

/** The path and query that the app is asked for. */
export function forwardedTarget(header: string | string[] | undefined): string {
  const target = header ?? "/";
  if (typeof target !== "string" || !/^(\/[\x21-\x7e\x80-\xff]*|\*)$/.test(target)) {
    throw new ApiError("invalid_request", { detail: "x-sandbar-target must be a path with its query." });
  }
  return target;
}
