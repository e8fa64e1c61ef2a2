import type { Parts } from "./parts.ts";
import type { Timer } from "./timers.ts";

const RETRY_MS = 5000;
/** How long the alarm waits for what it has begun. While it does, no timer fires. */
const WAIT_MS = 500;

/**
 * The object's alarm: every timer that is due does its work, all of them at once, and one that fails is tried again. What takes
 * long, as a host that does not answer does, goes on behind the alarm and holds up no other timer.
 */
export async function goOff(parts: Parts, waitUntil: (work: Promise<unknown>) => void): Promise<void> {
  const { timers } = parts;
  const works = timers.goneOff(Date.now()).map((timer) => once(timer, parts, waitUntil));
  const all = Promise.all(works);
  waitUntil(all);
  let over: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([all, new Promise((resolve) => (over = setTimeout(resolve, WAIT_MS)))]);
  clearTimeout(over);
  timers.rearm();
}

/** Does the work of a timer unless it is still under way. */
async function once(timer: Timer, parts: Parts, waitUntil: (work: Promise<unknown>) => void): Promise<void> {
  const { timers, store, firing } = parts;
  timers.hold(timer, Date.now() + RETRY_MS);
  if (firing.has(timer)) return;
  firing.add(timer);
  try {
    await fire(timer, parts, waitUntil);
  } catch (error) {
    console.error(`The timer ${timer} of ${store.record?.sandboxId} failed; it fires again.`, error);
    timers.set(timer, Date.now() + RETRY_MS);
  }
  firing.delete(timer);
  timers.release(timer);
}

async function fire(timer: Timer, parts: Parts, waitUntil: (work: Promise<unknown>) => void): Promise<void> {
  // A host may have come back at another address since the object last spoke to it. Without the catalog the old one counts.
  if (timer === "idle" || timer === "cleanup" || timer === "deadline" || timer === "network")
    await parts.host.relocate().catch(() => undefined);
  switch (timer) {
    case "start":
      // Not waited for: a start may take minutes, and its timer is what takes it up again.
      return waitUntil(parts.starter.start());
    case "probe":
      return waitUntil(parts.probe.run());
    case "lifetime":
      return parts.watch.checkLifetime();
    case "idle":
      return parts.watch.checkIdle(() => parts.operations.inFlight);
    case "outbox":
      return parts.outbox.flush();
    case "cleanup":
      return parts.cleanup.run();
    case "sockets":
      return parts.socketEvents.sweep();
    case "container":
      return parts.containerWatch.fire();
    case "deadline":
      return parts.deadline.confirm();
    case "network":
      return parts.network.confirm();
    case "snapshot":
      return parts.snapshots.resume();
    case "retention":
      return parts.retention.fire();
  }
}
