import { ApiError } from "../contract/errors.ts";

/** The longest delay that `setTimeout` takes; a longer one would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Calls back at a time (milliseconds since 1970), however far away. The answer cancels it. */
export function callAt(time: number, callback: () => void): () => void {
  let timer: NodeJS.Timeout;
  const arm = () => {
    const delay = Math.max(0, time - Date.now());
    timer = delay > MAX_DELAY_MS ? setTimeout(arm, MAX_DELAY_MS) : setTimeout(callback, delay);
  };
  arm();
  return () => clearTimeout(timer);
}

/** What the promise gives, or the error of `late` when it takes longer. The promise itself goes on. */
export async function withTimeLimit<T>(promise: Promise<T>, limitMs: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), limitMs);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** True when the promise settled well within the limit, false when it did not; never rejects. */
export function settlesWithin(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  return withTimeLimit(
    promise.then(
      () => true,
      () => true,
    ),
    limitMs,
    () => new Error("late"),
  ).catch(() => false);
}

/** The error of something on this machine that took too long. */
export const tooSlow = (what: string) => () =>
  new ApiError("backend_unavailable", { detail: `${what} took too long.`, retryAfter: 1 });

/** The error of something on this machine that failed, and of which more is to be read here. */
export function unavailable(detail: string, cause: unknown): ApiError {
  console.error(`sandbar host: ${detail}`, cause);
  return new ApiError("backend_unavailable", { detail, cause, retryAfter: 1 });
}
