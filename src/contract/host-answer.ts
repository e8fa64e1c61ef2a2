import { ApiError } from "./errors.ts";
import { fromProblem } from "./problem.ts";

/** On a host's answer to a signature that it does not take: no app behind a tunnel can give such an answer, and nothing was done. */
export const REFUSED_HEADER = "x-sandbar-refused";

/** A host that knows no such key of the control plane. */
export const signatureRefused = () =>
  new ApiError("backend_unavailable", {
    detail: "The host does not accept the control plane's signature.",
    retryAfter: 5,
  });

/** The error that a host's answer stands for; undefined when it is a success. The host's own problem passes on as it is. */
export async function errorOfHostAnswer(response: Response): Promise<ApiError | undefined> {
  if (response.ok) return undefined;
  const problem = fromProblem(await response.json().catch(() => undefined));
  if (problem?.code === "unauthenticated") return signatureRefused();
  return (
    problem ?? new ApiError("backend_unavailable", { detail: `The host answered ${response.status}.`, retryAfter: 5 })
  );
}

/** A host that cannot be reached. */
export function hostAway(cause: unknown): ApiError {
  return new ApiError("backend_unavailable", { detail: "The sandbox's host does not answer.", retryAfter: 5, cause });
}
