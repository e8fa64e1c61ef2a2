import { ApiError } from "../contract/errors.ts";
import type { TunnelOrigin } from "../sandbox/rpc.ts";
import { callPort } from "./call-port.ts";
import type { Env } from "./env.ts";
import { answerForClient } from "./tunnel-headers.ts";
import { tunnelProblem } from "./tunnel-problem.ts";

const LABEL = /^([1-9]\d{0,4})-(sb-[a-z0-9]{22})$/;
const MAX_PORT = 65_535;

/** The domain under which sandboxes answer. */
export const tunnelDomain = (env: Env): string => (env.TUNNEL_DOMAIN || "localhost").toLowerCase();

/** Where a request's host name leads: to a port of a sandbox, to nothing, or (`undefined`) to the API. */
export type TunnelTarget = { kind: "port"; sandboxId: string; port: number } | { kind: "malformed" } | undefined;

/** Every name right below the tunnel domain belongs to tunnels: `8080-sb-….example.com`. */
export function tunnelTarget(hostname: string, domain: string): TunnelTarget {
  const name = hostname.toLowerCase().replace(/\.$/, "");
  if (!name.endsWith(`.${domain}`)) return undefined;
  const match = LABEL.exec(name.slice(0, -domain.length - 1));
  if (!match || Number(match[1]) > MAX_PORT) return { kind: "malformed" };
  return { kind: "port", sandboxId: match[2]!, port: Number(match[1]) };
}

/** Hands the request on to the sandbox, with what is known of who makes it. What goes wrong on the way is said in our own words. */
export async function proxyTunnel(request: Request, env: Env, target: NonNullable<TunnelTarget>): Promise<Response> {
  try {
    if (target.kind === "malformed") throw new ApiError("not_found", { detail: "No sandbox has this host name." });
    return answerForClient(await callPort(request, env, target));
  } catch (error) {
    return tunnelProblem(request, error);
  }
}

/** Tunnels answer on the port and by the scheme that the API itself was called on. */
export function tunnelOrigin(apiUrl: string, env: Env): TunnelOrigin {
  const url = new URL(apiUrl);
  const protocol = url.protocol === "https:" ? "https:" : "http:";
  const port = url.port === "" ? (protocol === "https:" ? 443 : 80) : Number(url.port);
  return { protocol, domain: tunnelDomain(env), port };
}
