/** A reader that took nothing for so long no longer holds the process back; it loses what leaves the window. */
export const STALL_MS = 5_000;
/** How long the place of a reader whose connection broke is kept for its return. */
export const RETURN_MS = 30_000;
/**
 * What may be on its way to a reader, and has to be there again when its connection breaks: two connections, each with up to
 * ten megabytes in the buffers of its two ends.
 */
export const IN_FLIGHT_BYTES = 32 * 1024 * 1024;

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

/** A reader, at the place that it has come to. */
export interface HoldingReader extends Hold {
  /** Where it began, and when. */
  readonly from: number;
  readonly cameAt: number;
  /** Milliseconds since 1970: when it last took something, or came. */
  readonly movedAt: number;
}

/**
 * Whom a process waits for: readers that read, and for a while those that were cut off, so that whoever comes back at its
 * offset has missed nothing, even of a process that writes more than the window in that time.
 */
export class Holds {
  readonly #holds = new Set<Hold>();
  /** Readers in whom no lost one was recognized. */
  readonly #unrecognized = new Set<HoldingReader>();

  /**
   * A reader has come to its place, and is waited for from now on. Where one was cut off, it has returned: it had been sent more than it
   * has got, so it comes back at or before the place where it was lost.
   */
  arrive(reader: HoldingReader): void {
    const { offset } = reader;
    let nearest: Lost | undefined;
    for (const hold of this.#holds) {
      if (!(hold instanceof Lost)) continue;
      if (hold.kind !== "cut") this.#holds.delete(hold);
      else if (hold.offset >= offset && (!nearest || hold.offset < nearest.offset)) nearest = hold;
    }
    if (nearest) this.#holds.delete(nearest);
    else this.#unrecognized.add(reader);
    this.#holds.add(reader);
  }

  /** A reader has gone. `isCut`: it had not come to its end; its place is kept, unless it is back already. */
  leave(reader: HoldingReader, isCut: boolean): void {
    this.#holds.delete(reader);
    this.#unrecognized.delete(reader);
    if (isCut && !this.#isBack(reader)) this.#await(new Lost("cut", reader.offset, Date.now() + RETURN_MS));
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

  /**
   * Whether the reader has come back before its loss was noticed, which may take longer than coming back: its place would hold up the
   * process for nobody.
   */
  #isBack({ from, cameAt, offset, movedAt }: HoldingReader): boolean {
    // It has got what it began with, and all but what may have been on its way.
    const first = Math.max(from, offset - IN_FLIGHT_BYTES);
    let nearest: HoldingReader | undefined;
    for (const reader of this.#unrecognized) {
      if (reader.from < first || reader.from > offset) continue;
      // A little before it is late, too: buffers on the way go on taking for a moment.
      if (reader.cameAt < Math.max(cameAt, movedAt - STALL_MS)) continue;
      if (!nearest || reader.from > nearest.from) nearest = reader;
    }
    return nearest !== undefined && this.#unrecognized.delete(nearest);
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
