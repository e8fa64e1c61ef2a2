/**
 * What of an error is the platform's doing: the catalog (D1) does not answer, an object gets too many requests, or was moved while
 * it was asked. Undefined of any other.
 */
export function platformFailure(error: unknown): "catalog" | "overloaded" | "moved" | undefined {
  // Within what the query builder makes of it.
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    if (cause.message.startsWith("D1_")) return "catalog";
  if (!(error instanceof Error)) return undefined;
  const { overloaded, retryable, durableObjectReset } = error as Partial<Record<string, unknown>> & Error;
  if (overloaded) return "overloaded";
  return retryable || durableObjectReset ? "moved" : undefined;
}
