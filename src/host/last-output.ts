import type { ProcessLog } from "./logs/process-log.ts";
import { settlesWithin } from "./time-limit.ts";

/** How long the last output of an ended process may take, but for the time that a slow reader holds it back. */
const LAST_OUTPUT_MS = 250;
const STEP_MS = 25;
/** How long a machine may take to bring to the disk what a process had written by its end. */
const SETTLE_MS = 30_000;

/**
 * Waits until what the process had written by its end is on the disk, for as long as a machine may take for that, and as a slow reader
 * holds it back.
 */
export async function untilDrained(logs: ProcessLog[], output: Promise<unknown>): Promise<void> {
  // However busy this machine is, what lies in the pipes is the process's own.
  const drained = Promise.race([output, Promise.all(logs.map((log) => log.settled()))]);
  while (!(await settlesWithin(drained, SETTLE_MS)) && logs.some((log) => log.isHeld));
}

/**
 * Waits for the last output of a process that has ended, `output` being its end; then ends the logs. What something in the
 * background writes after that is read on, but not kept: it gets no SIGPIPE.
 */
export async function lastOutput(logs: ProcessLog[], output: Promise<unknown>): Promise<void> {
  // Nearly always; and then the pump need not be asked.
  if (await settlesWithin(output, STEP_MS)) return;
  await untilDrained(logs, output);
  let isThrough = false;
  let wake = () => {};
  const stop = () => {
    isThrough = true;
    wake();
  };
  output.then(stop, stop);
  // In steps: a moment in which this daemon gets to do nothing counts as one.
  for (let left = LAST_OUTPUT_MS; left > 0;) {
    await new Promise<void>((resolve) => {
      wake = resolve;
      setTimeout(resolve, STEP_MS);
    });
    if (isThrough) return void (await output);
    if (!logs.some((log) => log.isHeld)) left -= STEP_MS;
  }
  for (const log of logs) log.end();
}
