import { ApiError, ERRORS, type ErrorCode } from "./errors.ts";
import { fromProblem } from "./problem.ts";

/** On a host's answer to a signature that it does not take: no app behind a tunnel can give such an answer, and nothing was done. */
export const REFUSED_HEADER = "x-sandbar-refused";

/** On a problem of ours that stands in place of an app's answer, with its code: no app behind a tunnel can give such an answer. */
export const PROBLEM_HEADER = "x-sandbar-problem";

/** The error that stands in place of an app's answer; undefined of one that is the app's own. */
export async function problemInPlaceOf(answer: Response): Promise<ApiError | undefined> {
  const code = answer.headers.get(PROBLEM_HEADER);
  if (code === null) return undefined;
  // An answer to HEAD has no body.
  const problem = fromProblem(await answer.json().catch(() => undefined));
  const { detail, errors, extra } = problem ?? {};
  const retryAfter = Number(answer.headers.get("retry-after") ?? NaN);
  return new ApiError(problem?.code ?? (Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : "backend_unavailable"), {
    ...(detail !== undefined && { detail }),
    ...(errors && { errors }),
    ...(extra && { extra }),
    ...(Number.isFinite(retryAfter) && { retryAfter }),
  });
}

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
