import { formatEvent } from "../../contract/events.ts";
import type { WatchEvent } from "../../contract/file.ts";
import { toProblem } from "../../contract/problem.ts";
import { ApiError } from "../../contract/errors.ts";
import { MAX_EVENTS } from "./teller.ts";

/** How many events go out at a time. */
const BATCH = 500;

/** What a client has not been sent yet. One that is too slow loses what waits for it, and is told so. */
export class EventQueue {
  #waiting: WatchEvent[] = [];
  #end: string | undefined;
  #wake = Promise.withResolvers<void>();

  push(events: WatchEvent[]): void {
    if (this.#end !== undefined) return;
    for (const event of events) this.#waiting.push(event);
    if (this.#waiting.length > MAX_EVENTS) this.#waiting = [{ event: "overflow" }];
    this.#wake.resolve();
  }

  /** Nothing follows, but for the error. */
  end(error?: ApiError): void {
    this.#end ??= error ? formatEvent("error", toProblem(error)) : "";
    this.#wake.resolve();
  }

  /** The next events, as text; undefined after the last. */
  async next(): Promise<string | undefined> {
    while (this.#waiting.length === 0 && this.#end === undefined) {
      await this.#wake.promise;
      this.#wake = Promise.withResolvers();
    }
    const batch = this.#waiting.splice(0, BATCH);
    if (batch.length > 0) return batch.map(({ event, ...data }) => formatEvent(event, data)).join("");
    const last = this.#end;
    this.#end = "";
    return last || undefined;
  }
}
