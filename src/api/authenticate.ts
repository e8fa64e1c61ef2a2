import { createMiddleware } from "hono/factory";
import { hasScope, principalOf, type Principal } from "../auth/principal.ts";
import { ApiError } from "../contract/errors.ts";
import type { ScopeName } from "../contract/key.ts";
import type { ApiEnv, Env } from "./env.ts";
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
  const principal = await principalOf(env, key);
  if (!principal) throw new ApiError("unauthenticated", { detail: "The API key is unknown or revoked." });
  return principal;
}

/** Refuses a principal none of whose scopes holds the one needed. */
function requireScope(principal: Principal, needed: ScopeName): void {
  if (!hasScope(principal, needed))
    throw new ApiError("forbidden", { detail: `This needs a key with the scope \`${needed}\`.` });
}
