import { parseAddress } from "../contract/cidr.ts";
import type { Env } from "./env.ts";

/**
 * The address that a request comes from; undefined where nobody knows. Cloudflare says it in a header, and lets no client set
 * that. `wrangler dev` does let it: there `CLIENT_ADDRESS` counts, of a Worker that only its own machine reaches.
 */
export function clientAddress(request: Request, { CLIENT_ADDRESS: fixed }: Env): string | undefined {
  return parseAddress(fixed || (request.headers.get("cf-connecting-ip") ?? ""))?.toString();
}
