import { IN, type RawEvent } from "../linux/inotify.ts";

/** How long the second half of a rename is waited for. */
const PAIR_MS = 50;
/** More than the kernel keeps by default. */
const MAX_WAITING = 32_768;

/** What happened, with both halves of a rename together. */
export interface Change {
  event: RawEvent;
  /** Where to, of an `event` that tells where from. */
  movedTo?: RawEvent | undefined;
  /** Counts all that was read. */
  sequence: number;
}

interface Waiting extends Change {
  readAt: number;
  isTaken: boolean;
}

/** The events in their order. A rename whose other half is not there yet holds up what comes behind it for a moment. */
export class ChangeOrder {
  #waiting: Waiting[] = [];
  #head = 0;
  #arrivals = new Map<number, Waiting>();
  #sequence = 0;

  /** The sequence of the last that was pushed. */
  get last(): number {
    return this.#sequence;
  }

  get isFull(): boolean {
    return this.#waiting.length - this.#head > MAX_WAITING;
  }

  push(events: RawEvent[], now: number): void {
    for (const event of events) {
      const waiting = { event, sequence: ++this.#sequence, readAt: now, isTaken: false };
      this.#waiting.push(waiting);
      if (event.mask & IN.MOVED_TO) this.#arrivals.set(event.cookie, waiting);
    }
  }

  /** The next one; undefined when there is none, or not yet. */
  next(now: number): Change | undefined {
    for (;;) {
      const first = this.#waiting[this.#head];
      if (!first) {
        this.#waiting = [];
        this.#head = 0;
        return undefined;
      }
      const isDeparture = !first.isTaken && (first.event.mask & IN.MOVED_FROM) !== 0;
      const arrival = isDeparture ? this.#arrivals.get(first.event.cookie) : undefined;
      if (isDeparture && !arrival && now < first.readAt + PAIR_MS) return undefined;
      this.#head++;
      if (first.event.mask & IN.MOVED_TO) this.#arrivals.delete(first.event.cookie);
      if (first.isTaken) continue;
      if (arrival) arrival.isTaken = true;
      return { event: first.event, movedTo: arrival?.event, sequence: first.sequence };
    }
  }

  /** When `next` must be asked again, if nothing is pushed before. */
  get dueAt(): number {
    const first = this.#waiting[this.#head];
    return first ? first.readAt + PAIR_MS : Infinity;
  }

  clear(): void {
    this.#waiting = [];
    this.#head = 0;
    this.#arrivals.clear();
  }
}
