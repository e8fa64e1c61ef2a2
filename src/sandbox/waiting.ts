import { isLive, type WaitFor } from "../contract/sandbox.ts";
import type { EventLog, LoggedEvent } from "./event-log.ts";
import type { Lifecycle } from "./lifecycle.ts";

/** What happened to a sandbox, as far as it is not told yet. `isOver`: nothing comes behind it. */
export interface EventBatch {
  events: LoggedEvent[];
  isOver: boolean;
}

/** Waits until the sandbox is so, or has ended, or the time is up. */
export async function waitFor(lifecycle: Lifecycle, until: WaitFor, waitMs: number, now: () => number): Promise<void> {
  const giveUpAt = now() + waitMs;
  for (;;) {
    const { record } = lifecycle;
    if (!record || !isLive(record.state) || (until === "ready" && record.state === "ready")) return;
    const left = giveUpAt - now();
    if (left <= 0) return;
    await lifecycle.nextEvent(left);
  }
}

/** The events behind the one of this number, as soon as there are any, or none when the time is up. */
export async function eventsAfter(
  log: EventLog,
  lifecycle: Lifecycle,
  seq: number,
  waitMs: number,
  now: () => number,
): Promise<EventBatch> {
  const giveUpAt = now() + waitMs;
  for (;;) {
    const events = log.after(seq);
    const { record } = lifecycle;
    const isOver = !record || !isLive(record.state);
    const left = giveUpAt - now();
    if (events.length > 0 || isOver || left <= 0) return { events, isOver };
    await lifecycle.nextEvent(left);
  }
}
