/** A reader that took nothing for so long no longer holds the process back; it loses what leaves the window. */
export const STALL_MS = 5_000;
/** How long the place of a reader whose connection broke is kept for its return. */
export const RETURN_MS = 30_000;

/** How long the beginning of an output is kept for readers that nobody has announced. */
const HEADSTART_MS = 2_000;
/** Places kept at a time, of those who may return. */
const MAX_LOST = 64;

/** A place in a log that the process must not leave behind by more than the window. */
export interface Hold {
  offset: number;
  /** Milliseconds since 1970, after which the process need not wait for it. */
  until: number;
}

/**
 * Whom a process waits for: readers that read, and for a while those that were cut off, so that whoever comes back at its
 * offset has missed nothing, even of a process that writes more than the window in that time.
 */
export class Holds {
  readonly #holds = new Set<Hold>();

  add(hold: Hold): void {
    this.#holds.add(hold);
  }

  delete(hold: Hold): void {
    this.#holds.delete(hold);
  }

  /**
   * A reader has come to this place: whoever was cut off has returned. It had been sent more than it has got, so it comes back
   * at or before the place where it was lost.
   */
  returned(offset: number): void {
    let nearest: Lost | undefined;
    for (const hold of this.#holds) {
      if (!(hold instanceof Lost)) continue;
      if (hold.kind !== "cut") this.#holds.delete(hold);
      else if (hold.offset >= offset && (!nearest || hold.offset < nearest.offset)) nearest = hold;
    }
    if (nearest) this.#holds.delete(nearest);
  }

  /** Keeps the place of a reader that was cut off. */
  lose(offset: number, ms = RETURN_MS): void {
    this.#await(new Lost("cut", offset, Date.now() + ms));
  }

  /** Keeps what there is from this place on for whoever comes first, wherever it wants to go on. */
  awaitAnyone(offset: number): void {
    this.#await(new Lost("announced", offset, Date.now() + RETURN_MS));
  }

  /** The same for readers that nobody has announced. */
  expectAnyone(offset: number): void {
    this.#await(new Lost("expected", offset, Date.now() + HEADSTART_MS));
  }

  /** Nobody comes any more of those who were only expected. */
  expectNobody(): void {
    for (const hold of this.#holds) if (hold instanceof Lost && hold.kind === "expected") this.#holds.delete(hold);
  }

  #await(hold: Lost): void {
    const lost = [...this.#holds].filter((one) => one instanceof Lost);
    if (lost.length >= MAX_LOST) this.#holds.delete(lost[0]!);
    this.#holds.add(hold);
  }

  /** The lowest offset that is waited for; undefined when nobody is. */
  lowest(): number | undefined {
    const now = Date.now();
    let lowest: number | undefined;
    for (const hold of this.#holds) {
      if (hold.until < now) {
        if (hold instanceof Lost) this.#holds.delete(hold);
      } else if (lowest === undefined || hold.offset < lowest) lowest = hold.offset;
    }
    return lowest;
  }
}

class Lost implements Hold {
  readonly kind: "cut" | "announced" | "expected";
  readonly offset: number;
  readonly until: number;
  constructor(kind: Lost["kind"], offset: number, until: number) {
    this.kind = kind;
    this.offset = offset;
    this.until = until;
  }
}
