import type { Parts } from "./parts.ts";
import type { Timer } from "./timers.ts";

const RETRY_MS = 5000;

/** The object's alarm: every timer that is due does its work, and one that fails is tried again. */
export async function goOff(parts: Parts, waitUntil: (work: Promise<unknown>) => void): Promise<void> {
  const { timers, store } = parts;
  // At once: one that waits for a host must not hold up the others.
  await Promise.all(
    timers.goneOff(Date.now()).map(async (timer) => {
      try {
        await fire(timer, parts, waitUntil);
      } catch (error) {
        console.error(`The timer ${timer} of ${store.record?.sandboxId} failed; it fires again.`, error);
        timers.set(timer, Date.now() + RETRY_MS);
      }
    }),
  );
  timers.rearm();
}

async function fire(timer: Timer, parts: Parts, waitUntil: (work: Promise<unknown>) => void): Promise<void> {
  // A host may have come back at another address since the object last spoke to it. Without the catalog the old one counts.
  if (timer === "idle" || timer === "cleanup" || timer === "deadline")
    await parts.host.relocate().catch(() => undefined);
  switch (timer) {
    case "start":
      // Not waited for: a start may take minutes, and other timers must fire meanwhile.
      return waitUntil(parts.starter.start());
    case "probe":
      return waitUntil(parts.probe.run());
    case "lifetime":
      parts.lifecycle.apply({ kind: "lifetime_over" });
      return;
    case "idle":
      return parts.watch.checkIdle(parts.operations.inFlight);
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
    case "retention":
      return parts.retention.fire();
  }
}
