/** Looks every few milliseconds: workerd does not let one object settle the promise of another. */
export async function until(condition: () => boolean, timeoutMs = Infinity): Promise<void> {
  const giveUpAt = Date.now() + timeoutMs;
  while (!condition() && Date.now() < giveUpAt) await new Promise((wake) => setTimeout(wake, 2));
}
