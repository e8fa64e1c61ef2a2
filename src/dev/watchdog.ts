const CHECK_MS = 5_000;
const ANSWER_MS = 10_000;
/** One may be missed: the machine may have slept, or be busy. */
const MAX_MISSED = 2;

/** Asks the API whether it answers, for ever. Calls `isStuck` when it is there and does not answer. Returns what ends the watch. */
export function watch(url: string, isStuck: () => void): () => void {
  let missed = 0;
  let isOver = false;
  async function check(): Promise<void> {
    const doesAnswer = await fetch(`${url}/health`, { signal: AbortSignal.timeout(ANSWER_MS) }).then(
      () => true,
      // One that refuses is not running, and being started again.
      (error: unknown) => !(error instanceof Error && error.name === "TimeoutError"),
    );
    missed = doesAnswer ? 0 : missed + 1;
    if (isOver) return;
    if (missed === MAX_MISSED) {
      missed = 0;
      isStuck();
    }
    timer = setTimeout(() => void check(), CHECK_MS);
  }
  let timer = setTimeout(() => void check(), CHECK_MS);
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}
