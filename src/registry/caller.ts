import { principalOf, type AuthEnv, type Principal } from "../auth/principal.ts";
import { verifyGrant, type RegistryGrant } from "../contract/registry.ts";
import { RegistryError } from "./errors.ts";

/** What callers are known by. */
export interface CallerEnv extends AuthEnv {
  SIGNING_SECRET: string;
}

/** Who asks, and by what right. */
export type Caller = { kind: "key"; principal: Principal } | { kind: "grant"; grant: RegistryGrant };

export const environmentOfCaller = (caller: Caller): string =>
  caller.kind === "key" ? caller.principal.environment : caller.grant.environment;

/** Throws UNAUTHORIZED. Engines send what they have been given as user and password: the password is the key. */
export async function identify(env: CallerEnv, authorization: string | null): Promise<Caller> {
  if (authorization === null) throw new RegistryError("UNAUTHORIZED");
  const token = /^Bearer +([\x21-\x7e]+) *$/i.exec(authorization)?.[1];
  const grant = token?.split(".").length === 3 ? await verifyGrant(env.SIGNING_SECRET, token) : undefined;
  if (grant) return { kind: "grant", grant };
  const key = token ?? passwordOf(authorization);
  if (key === undefined || !/^[\x21-\x7e]{1,256}$/.test(key)) {
    const message = "The Authorization header is neither `Basic` with an API key as the password nor `Bearer <key>`.";
    throw new RegistryError("UNAUTHORIZED", { message });
  }
  const principal = await principalOf(env, key);
  if (!principal) throw new RegistryError("UNAUTHORIZED", { message: "The API key is unknown or revoked." });
  return { kind: "key", principal };
}

function passwordOf(authorization: string): string | undefined {
  const encoded = /^Basic +([A-Za-z0-9+/]+=*) *$/i.exec(authorization)?.[1];
  if (encoded === undefined) return undefined;
  try {
    const text = atob(encoded);
    const colon = text.indexOf(":");
    return colon === -1 ? undefined : text.slice(colon + 1);
  } catch {
    return undefined;
  }
}
