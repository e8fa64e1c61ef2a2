import { connect, isIPv6, type Socket, type TcpNetConnectOpts } from "node:net";
import { withTimeLimit } from "../time-limit.ts";
import { connected, failure } from "./connecting.ts";
import type { Forbidden } from "./forbidden.ts";
import type { Family, Names } from "./names.ts";

const DIAL_TIMEOUT_MS = 10_000;
/** Of one address of several. */
const ATTEMPT_TIMEOUT_MS = 3_000;
const KEEP_ALIVE_MS = 60_000;

export interface DialContext {
  forbidden: Pick<Forbidden, "has">;
  names: Pick<Names, "resolve">;
}

/** Connects from this machine to the address, which nothing is asked about any more. */
export function dialAddress(
  address: string,
  port: number,
  signal: AbortSignal,
  limitMs = DIAL_TIMEOUT_MS,
): Promise<Socket> {
  const options: TcpNetConnectOpts = {
    host: address,
    port,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  };
  return connected(connect(options), address, limitMs, signal);
}

/**
 * Connects from this machine to what it finds under the name itself: the first of its addresses that answers and is not forbidden. Rejects
 * with an error with a `code`: `EACCES` where all are forbidden.
 */
export async function dialName(
  { forbidden, names }: DialContext,
  name: string,
  port: number,
  { first, signal }: { first: Family; signal: AbortSignal },
): Promise<Socket> {
  const until = performance.now() + DIAL_TIMEOUT_MS;
  const late = () => failure("ETIMEDOUT", `${name} is not reached`);
  let error: unknown;
  let foundForbidden = false;
  for (const family of first === 4 ? ([4, 6] as const) : ([6, 4] as const)) {
    let addresses: string[] = [];
    try {
      addresses = await withTimeLimit(names.resolve(name, family), Math.max(0, until - performance.now()), late);
    } catch (cause) {
      error ??= cause;
    }
    for (const address of addresses) {
      const leftMs = until - performance.now();
      if (signal.aborted || leftMs <= 0) throw late();
      if (forbidden.has(address)) foundForbidden = true;
      else {
        try {
          return await dialAddress(address, port, signal, Math.min(leftMs, ATTEMPT_TIMEOUT_MS));
        } catch (cause) {
          error = cause;
        }
      }
    }
  }
  if (error === undefined && foundForbidden)
    throw failure("EACCES", `${name} leads to nothing that a sandbox may reach`);
  throw error ?? failure("ENODATA", `${name} has no address`);
}

/** The family in which a sandbox itself asked for something. */
export const familyOf = (address: string): Family => (isIPv6(address) ? 6 : 4);
