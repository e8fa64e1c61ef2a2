import { ApiError } from "../contract/errors.ts";
import type { Decision, Demand } from "./policy/model.ts";

/** How many may wait for room: of one environment, and of all together. */
export const QUEUE_LIMITS = { perEnvironment: 1000, total: 10_000 } as const;
/** Seconds. */
const RETRY_AFTER_S = 5;

/** The refusal of one that finds no place in the line. */
export function lineIsFull({ whose }: Extract<Decision, { kind: "full" }>): ApiError {
  return whose === "environment"
    ? new ApiError("rate_limited", {
        detail: `${QUEUE_LIMITS.perEnvironment} sandboxes of this environment wait for room already.`,
        retryAfter: RETRY_AFTER_S,
      })
    : new ApiError("at_capacity", {
        detail: `${QUEUE_LIMITS.total} sandboxes wait for room already.`,
        retryAfter: RETRY_AFTER_S,
      });
}

/** What one waits for, for the person whose sandbox did not get it. */
export function whyWaiting({ gpus, cpu, memory }: Demand, isAnyHostOpen: boolean): string {
  if (!isAnyHostOpen) return "No host is connected.";
  const size = `${cpu} cores and ${memory} MiB`;
  if (gpus.length === 0) return `No host that can run it and takes new sandboxes has ${size} free.`;
  const wanted = gpus.map(({ type, count }) => (type === "ANY" ? `${count} GPU` : `${count} × ${type}`)).join(", or ");
  return `No host that can run it and takes new sandboxes has ${wanted} free, with ${size}.`;
}
