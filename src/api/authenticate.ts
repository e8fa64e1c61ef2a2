import { createMiddleware } from "hono/factory";
import { KeyCatalog, type KeyRow } from "../catalog/keys.ts";
import { ApiError } from "../contract/errors.ts";
import { DEFAULT_ENVIRONMENT, SCOPES, type ScopeName } from "../contract/key.ts";
import { sha256, sha256Hex } from "./digest.ts";
import type { ApiEnv, Env, Principal } from "./env.ts";
import { KnownKeys } from "./known-keys.ts";
import { authorizationOf } from "./socket-protocols.ts";

/** Finds out who calls and refuses what the key does not allow. Runs before anything is validated. */
export const authenticate = createMiddleware<ApiEnv>(async function authenticate(c, next) {
  const { scope } = c.get("route");
  if (scope !== undefined) {
    const principal = await identify(c.env, c.req.header("authorization") ?? authorizationOf(c.req.raw));
    requireScope(principal, scope);
    c.set("principal", principal);
  }
  await next();
});

async function identify(env: Env, authorization: string | undefined): Promise<Principal> {
  if (authorization === undefined) {
    throw new ApiError("unauthenticated", { detail: "Send your API key as `Authorization: Bearer <key>`." });
  }
  const key = /^Bearer +([\x21-\x7e]{1,256}) *$/i.exec(authorization)?.[1];
  if (key === undefined) {
    throw new ApiError("unauthenticated", { detail: "The Authorization header is not of the form `Bearer <key>`." });
  }
  if (await isAdminKey(env, key)) {
    return { environment: DEFAULT_ENVIRONMENT, scopes: ["admin"], isBootstrap: true };
  }
  return ofCatalog(env, await sha256Hex(key));
}

const known = new KnownKeys();

/** Who has the key of this hash. While the catalog does not answer, what it said a moment ago counts. */
async function ofCatalog(env: Env, hash: string): Promise<Principal> {
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
    throw new ApiError("unauthenticated", { detail: "The API key is unknown or revoked." });
  }
  const principal = { environment: row.environment, scopes: row.scopes, isBootstrap: false };
  known.remember(hash, principal, now);
  return principal;
}

/** Compares digests, in constant time: neither the key's length nor its beginning shows. */
async function isAdminKey(env: Env, key: string): Promise<boolean> {
  if (!env.ADMIN_KEY) return false;
  return crypto.subtle.timingSafeEqual(await sha256(key), await sha256(env.ADMIN_KEY));
}

/** Refuses a principal none of whose scopes holds the one needed. */
function requireScope(principal: Principal, needed: ScopeName): void {
  const rank = Math.max(...principal.scopes.map((scope) => SCOPES.indexOf(scope)));
  if (rank < SCOPES.indexOf(needed))
    throw new ApiError("forbidden", { detail: `This needs a key with the scope \`${needed}\`.` });
}
