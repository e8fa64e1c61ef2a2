/** At most so many at once. */
const MAX_CONCURRENT = 16;

/** Does all of it, some at a time, and tells what failed. Never throws. */
export async function inBatches(
  work: readonly (() => Promise<unknown>)[],
  failed: (reason: unknown) => void,
): Promise<void> {
  for (let at = 0; at < work.length; at += MAX_CONCURRENT) {
    const results = await Promise.allSettled(work.slice(at, at + MAX_CONCURRENT).map((run) => run()));
    for (const result of results) if (result.status === "rejected") failed(result.reason);
  }
}
