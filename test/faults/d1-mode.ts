/**
 * How the catalog answers: as it does; with errors, nothing done; with errors, everything done (the answers are lost); or a
 * fraction of the calls in either way.
 */
export type D1Mode =
  | { kind: "ok" }
  | { kind: "fail" }
  | { kind: "lose-answers" }
  | { kind: "random"; fraction: number };

/** Where the Worker of this suite takes a {@link D1Switch}; it answers how many calls the mode before has hit. */
export const D1_MODE_PATH = "/__faults";

/** One that comes after another of a higher `turn` is late, and changes nothing. */
export interface D1Switch {
  turn: number;
  mode: D1Mode;
}

export interface D1ModeAnswer {
  hits: number;
}
