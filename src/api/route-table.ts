import { createMiddleware } from "hono/factory";
import type { OpenAPIHono } from "@hono/zod-openapi";
import { ApiError } from "../contract/errors.ts";
import { SCOPES, type ScopeName } from "../contract/key.ts";
import type { ApiEnv, MatchedRoute } from "./env.ts";

interface TableEntry extends MatchedRoute {
  method: string;
  pattern: RegExp;
}

/** `security` of a route: the scope that its caller's key needs. */
export const requires = (scope: ScopeName) => [{ ModalToken: [scope] }];

/** Pages that need no key and take only GET. */
const PUBLIC_PATHS = ["/health", "/openapi.json", "/docs"];

/**
 * Looks the operation up before anything else happens: an unknown path is 404, a path without the
 * method is 405, and what the operation needs (scope, body) is known to the middleware behind it.
 */
export function matchRoute(v1: OpenAPIHono<ApiEnv>, basePath: string) {
  const table: TableEntry[] = PUBLIC_PATHS.map((path) => entry("get", path, undefined, "none"));
  for (const definition of v1.openAPIRegistry.definitions) {
    if (definition.type !== "route") continue;
    const { method, path, security, request } = definition.route;
    const json = request?.body?.content["application/json"];
    const jsonBody = json === undefined ? "none" : request?.body?.required ? "required" : "optional";
    table.push(entry(method, basePath + path, scopeOf(security), jsonBody));
  }
  return createMiddleware<ApiEnv>(async function matchRoute(c, next) {
    const { pathname } = new URL(c.req.url);
    const here = table.filter(({ pattern }) => pattern.test(pathname));
    if (here.length === 0) throw new ApiError("not_found", { detail: "There is no such path." });
    const method = c.req.method === "HEAD" ? "GET" : c.req.method;
    const route = here.find((one) => one.method === method);
    if (!route) throw methodNotAllowed(here);
    c.set("route", route);
    await next();
  });
}

function entry(
  method: string,
  path: string,
  scope: ScopeName | undefined,
  jsonBody: TableEntry["jsonBody"],
): TableEntry {
  const pattern = new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/]+")}$`);
  return { method: method.toUpperCase(), pattern, scope, jsonBody };
}

/** An operation with an empty `security` asks for no API key; any other must say which scope it needs. */
function scopeOf(security: Record<string, string[]>[] | undefined): ScopeName | undefined {
  if (security?.length === 0) return undefined;
  const scope = SCOPES.find((name) => name === security?.[0]?.["ModalToken"]?.[0]);
  if (!scope) throw new Error("A route does not say which scope it needs.");
  return scope;
}

function methodNotAllowed(here: TableEntry[]): ApiError {
  const methods = here.flatMap(({ method }) => (method === "GET" ? ["GET", "HEAD"] : [method]));
  const allow = methods.toSorted().join(", ");
  return new ApiError("method_not_allowed", { detail: `The path has ${allow}.`, extra: { allow } });
}
