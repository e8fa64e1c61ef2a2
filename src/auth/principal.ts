import { KeyCatalog, type KeyRow } from "../catalog/keys.ts";
import { DEFAULT_ENVIRONMENT, SCOPES, type ScopeName } from "../contract/key.ts";
import { sha256, sha256Hex } from "./digest.ts";
import { KnownKeys } from "./known-keys.ts";

/** Who calls. */
export interface Principal {
  environment: string;
  scopes: ScopeName[];
  /** True for the deployment's own admin key, which may act for every environment. */
  isBootstrap: boolean;
}

/** What keys are looked up in. */
export interface AuthEnv {
  DB: D1Database;
  /** The first API key: admin of the environment `main`. Without it only keys of the catalog are taken. */
  ADMIN_KEY?: string;
}

/** Who has this key; undefined where it is unknown or revoked. Throws what D1 throws. */
export async function principalOf(env: AuthEnv, key: string): Promise<Principal | undefined> {
  if (await isAdminKey(env, key)) {
    return { environment: DEFAULT_ENVIRONMENT, scopes: ["admin"], isBootstrap: true };
  }
  return ofCatalog(env, await sha256Hex(key));
}

/** Whether one of its scopes holds the one needed. */
export function hasScope(principal: Principal, needed: ScopeName): boolean {
  return principal.scopes.some((scope) => SCOPES.indexOf(scope) >= SCOPES.indexOf(needed));
}

const known = new KnownKeys();

/** Who has the key of this hash. While the catalog does not answer, what it said a moment ago counts. */
async function ofCatalog(env: AuthEnv, hash: string): Promise<Principal | undefined> {
  const now = Date.now();
  let row: KeyRow | undefined;
  try {
    row = await new KeyCatalog(env.DB).findByHash(hash);
  } catch (error) {
    const principal = known.recall(hash, now);
    if (principal) return principal;
    throw error;
  }
  if (!row) {
    known.forget(hash);
    return undefined;
  }
  const principal = { environment: row.environment, scopes: row.scopes, isBootstrap: false };
  known.remember(hash, principal, now);
  return principal;
}

/** Compares digests, in constant time: neither the key's length nor its beginning shows. */
async function isAdminKey(env: AuthEnv, key: string): Promise<boolean> {
  if (!env.ADMIN_KEY) return false;
  return crypto.subtle.timingSafeEqual(await sha256(key), await sha256(env.ADMIN_KEY));
}
