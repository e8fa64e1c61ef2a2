import type { Removal } from "../catalog/in-use.ts";
import { ApiError } from "../contract/errors.ts";

/** Why it is not deleted: who uses it. */
export function inUse(what: string, { sandboxIds, total }: Extract<Removal, { kind: "in_use" }>): ApiError {
  const others = total > sandboxIds.length ? ` and ${total - sandboxIds.length} more` : "";
  return new ApiError("conflict", {
    detail: `${what} is used by ${sandboxIds.join(", ")}${others}.`,
    extra: { sandboxes: sandboxIds, sandbox_count: total },
  });
}
