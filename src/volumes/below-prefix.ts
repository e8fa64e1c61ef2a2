import { ApiError } from "../contract/errors.ts";
import type { GrantScope } from "./rpc.ts";

/** Throws `forbidden` where what lies below a path is not what the grant is for. */
export function requireReadable({ prefix }: GrantScope, path: string | undefined): void {
  if (prefix !== undefined && path !== undefined && path !== prefix) requireBelow({ prefix }, path);
}

/** Throws `forbidden` where the grant is for what lies below another path. */
export function requireBelow({ prefix }: Pick<GrantScope, "prefix">, path: string): void {
  if (prefix === undefined || path.startsWith(`${prefix}/`)) return;
  throw new ApiError("forbidden", { detail: `The grant is for what lies below \`${prefix}\`, not for \`${path}\`.` });
}
