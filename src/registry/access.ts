import { hasScope, type Principal } from "../auth/principal.ts";
import { snapshotsOf, type RegistryGrant } from "../contract/registry.ts";
import { environmentOfCaller, type Caller } from "./caller.ts";
import { RegistryError } from "./errors.ts";
import { environmentOf, requireRepositoryName } from "./names.ts";
import type { Target } from "./path.ts";

type Action = "pull" | "push" | "delete";
type RepositoryTarget = Extract<Target, { repository: string }>;

/**
 * Throws unless the caller may do this. Of another environment there is nothing to be seen, whatever there is; what is refused
 * within one's own is DENIED.
 */
export function requireAccess(caller: Caller, target: Target, method: string): void {
  const action = actionOf(target, method);
  if (target.kind === "base") return;
  if (target.kind === "catalog") {
    if (caller.kind === "grant") throw new RegistryError("DENIED", { message: "A grant is for one repository." });
    return requireScope(caller.principal, action);
  }
  requireRepositoryName(target.repository);
  if (environmentOf(target.repository) !== environmentOfCaller(caller)) throw new RegistryError("NAME_UNKNOWN");
  if (caller.kind === "grant") return requireGranted(caller.grant, action, target);
  requireScope(caller.principal, action);
  if (action !== "pull" && target.repository === snapshotsOf(caller.principal.environment)) {
    const message =
      "This repository is written by snapshots alone. Delete one with DELETE /v1/images/{id}; push to another name.";
    throw new RegistryError("DENIED", { message });
  }
}

function actionOf(target: Target, method: string): Action {
  const isUpload = target.kind === "uploads" || target.kind === "upload";
  if (isUpload) return "push";
  if (method === "GET" || method === "HEAD") return "pull";
  return method === "DELETE" ? "delete" : "push";
}

function requireScope(principal: Principal, action: Action): void {
  const scope = action === "pull" ? "read" : "write";
  if (hasScope(principal, scope)) return;
  throw new RegistryError("DENIED", { message: `This needs a key with the scope \`${scope}\`.` });
}

function requireGranted(grant: RegistryGrant, action: Action, target: RepositoryTarget): void {
  const isGranted =
    target.repository === grant.repository &&
    (action === "pull" ? mayPull(grant, target) : action === "push" && mayPush(grant, target));
  if (!isGranted) throw new RegistryError("DENIED", { message: "This is not what the grant is for." });
}

/** What is named by its digest is not found by trying: who has the name has been told of it. Tags and lists are not a host's to see. */
function mayPull(grant: RegistryGrant, target: RepositoryTarget): boolean {
  if (target.kind !== "manifest") return target.kind === "blob";
  return target.reference.includes(":") || (grant.access === "push" && target.reference === grant.tag);
}

function mayPush(grant: RegistryGrant, target: RepositoryTarget): boolean {
  if (grant.access !== "push") return false;
  return target.kind !== "manifest" || target.reference === grant.tag || target.reference.includes(":");
}
