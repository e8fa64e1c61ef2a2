import type { IncomingMessage } from "node:http";
import { domainOf } from "./host-name.ts";

export interface Target {
  name: string;
  /** With its query, or `*`. */
  path: string;
}

/** What a request asks and whom; undefined where it does not say that in one way only. */
export function targetOf(
  { rawHeaders, url = "", method }: IncomingMessage,
  scheme: "http" | "https",
): Target | undefined {
  const hosts = rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]!.toLowerCase() === "host");
  if (hosts.length !== 1) return undefined;
  const host = hosts[0]!.toLowerCase();
  const name = nameOf(host);
  if (name === undefined) return undefined;
  if (url.startsWith("/") || (url === "*" && method === "OPTIONS")) return { name, path: url };
  // Of a client that takes whom it calls for a proxy.
  const absolute = /^(https?):\/\/([^/?#@]+)([/?].*)?$/i.exec(url);
  if (absolute?.[1]?.toLowerCase() !== scheme || absolute[2]!.toLowerCase() !== host) return undefined;
  const path = absolute[3] ?? "/";
  return { name, path: path.startsWith("/") ? path : `/${path}` };
}

/** Without its port, which is that of the connection. */
function nameOf(host: string): string | undefined {
  const match = /^([^:]+)(?::\d{1,5})?$/.exec(host);
  return match ? domainOf(match[1]!) : undefined;
}
