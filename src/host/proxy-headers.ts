import { ApiError } from "../contract/errors.ts";

/** Headers of one connection only (RFC 9110, 7.6.1). */
const HOP_BY_HOP = new Set([
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
/** Ours, between the control plane and the host; nothing of the sandbox sees or sets them. */
const OWN_PREFIX = "x-sandbar-";

/** The end-to-end headers of a raw list, names and values alternating as node has them. */
export function endToEndHeaders(raw: string[]): string[] {
  const named = new Set<string>();
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.toLowerCase() !== "connection") continue;
    for (const name of raw[i + 1]!.split(",")) named.add(name.trim().toLowerCase());
  }
  const kept: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    if (HOP_BY_HOP.has(name) || named.has(name) || name.startsWith(OWN_PREFIX)) continue;
    kept.push(raw[i]!, raw[i + 1]!);
  }
  return kept;
}

/** The headers that the sandbox's app gets: those of the user, under the host name that the user called. */
export function forwardedHeaders(
  raw: string[],
  own: { host: string | undefined; signedInAuthorization: boolean },
): string[] {
  const headers: string[] = [];
  const kept = endToEndHeaders(raw);
  for (let i = 0; i < kept.length; i += 2) {
    const name = kept[i]!.toLowerCase();
    if (name === "host" && own.host !== undefined) continue;
    if (name === "authorization" && own.signedInAuthorization) continue;
    headers.push(kept[i]!, kept[i + 1]!);
  }
  if (own.host !== undefined) headers.push("Host", own.host);
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
