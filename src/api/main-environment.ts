import type { Principal } from "../auth/principal.ts";
import { ApiError } from "../contract/errors.ts";
import { DEFAULT_ENVIRONMENT } from "../contract/key.ts";

/** What concerns every environment is for admins of the main one only. `what`: such as `Hosts belong`. */
export function requireMainEnvironment(principal: Principal, what: string): void {
  if (principal.environment === DEFAULT_ENVIRONMENT) return;
  throw new ApiError("forbidden", { detail: `${what} to admins of the environment \`${DEFAULT_ENVIRONMENT}\`.` });
}
