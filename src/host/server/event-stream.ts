import { sendChunks } from "./respond.ts";
import type { Call } from "./route.ts";

const HEARTBEAT_MS = 15_000;

/** Events as they come. */
export interface EventSource {
  /** The next events, as text; undefined after the last. */
  next(): Promise<string | undefined>;
  close(isCut?: boolean): void;
}

/** Sends an event stream until its end, or until the client leaves. Closes it. */
export async function sendEvents({ response, signal }: Call, events: EventSource): Promise<void> {
  const cut = () => events.close(true);
  signal.addEventListener("abort", cut);
  if (signal.aborted) cut();
  // A comment: who sits between ends connections on which nothing comes, and who has gone is found out.
  const heartbeat = setInterval(() => {
    if (!response.writableNeedDrain) response.write(":\n\n");
  }, HEARTBEAT_MS);
  try {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.flushHeaders();
    await sendChunks(response, () => events.next());
  } finally {
    clearInterval(heartbeat);
    signal.removeEventListener("abort", cut);
    events.close();
  }
}
