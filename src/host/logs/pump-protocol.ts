/** How many streams one pump carries at a time. */
export const MAX_STREAMS = 65_536;

/** What the daemon's thread tells the pump's. A byte on the wake pipe goes with it, but for `open`: see there. */
export type PumpCommand =
  /**
   * Takes over the reading end of a pipe: its bytes go to the segments of `base`, from offset `length` on. Whoever says so has
   * the pipe watched, too; the pump hears of it when there is something to do.
   */
  | { kind: "open"; key: number; fd: number; base: string; length: number }
  /** Goes on with a stream that was held. */
  | { kind: "resume"; key: number }
  /** Moves what is in the pipe now, unless the stream is held; then says `looked`. */
  | { kind: "look"; key: number }
  /** Keeps no more of a stream, but reads it on: nobody who still writes there is killed for it. */
  | { kind: "discard"; key: number }
  /** Lets go of a stream. */
  | { kind: "close"; key: number }
  | { kind: "end" };

/** What the pump tells, what happened together in one message. Lengths stand in the shared memory and are only said to have changed. */
export type PumpNews =
  | { kind: "grown" }
  /** The pipe is at its end, cannot be read, or was let go of as asked: the last news of a key. */
  | { kind: "ended"; key: number }
  /** `isHeld`: what is in the pipe stays there for now. */
  | { kind: "looked"; key: number; isHeld: boolean }
  /** The stream has reached its limit, or the disk is full; it goes on at `resume`. */
  | { kind: "held"; key: number; isDiskFull: boolean };

export interface PumpMemory {
  /** By key: how many bytes the segments of a stream hold. Written by the pump. */
  lengths: BigInt64Array<SharedArrayBuffer>;
  /** By key: the length that a stream must not exceed. Written by the daemon's thread. */
  limits: BigInt64Array<SharedArrayBuffer>;
  /** 1 while a `grown` is on its way. */
  notice: Int32Array<SharedArrayBuffer>;
}
