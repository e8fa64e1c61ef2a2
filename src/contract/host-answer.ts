import { ApiError } from "./errors.ts";
import { fromProblem } from "./problem.ts";

/** The error that a host's answer stands for; undefined when it is a success. The host's own problem passes on as it is. */
export async function errorOfHostAnswer(response: Response): Promise<ApiError | undefined> {
  if (response.ok) return undefined;
  const problem = fromProblem(await response.json().catch(() => undefined));
  if (problem && problem.code !== "unauthenticated") return problem;
  return new ApiError("backend_unavailable", {
    detail: problem
      ? "The host does not accept the control plane's signature."
      : `The host answered ${response.status}.`,
    retryAfter: 5,
  });
}

/** A host that cannot be reached. */
export function hostAway(cause: unknown): ApiError {
  return new ApiError("backend_unavailable", { detail: "The sandbox's host does not answer.", retryAfter: 5, cause });
}
