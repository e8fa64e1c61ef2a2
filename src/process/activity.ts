/** Something that goes on in a sandbox. */
export interface Use {
  /** Something has moved on it. Of account where it has a time to be quiet for. */
  readonly moved: () => void;
  /** It is over. */
  readonly end: () => void;
}

/** How long a tunnel's connection on which nothing moves still counts as use of its sandbox. */
export const TUNNEL_QUIET_MS = 15 * 60_000;

/** Whether a sandbox is in use, and when it last was. */
export class Activity {
  /** What goes on, and until when it counts by itself. */
  readonly #uses = new Map<Use, number>();
  #lastActiveAt = Date.now();

  get isBusy(): boolean {
    return this.#countsUntil > Date.now();
  }

  /** How long ago it was last in use; 0 while it is. */
  get idleMs(): number {
    return Math.max(0, Date.now() - Math.max(this.#lastActiveAt, this.#countsUntil));
  }

  /** Counts as use until it ends, but not once nothing has moved on it for so long. */
  begin(quietMs = Infinity): Use {
    const use: Use = {
      moved: () => {
        if (this.#uses.has(use)) this.#uses.set(use, Date.now() + quietMs);
      },
      end: () => {
        if (this.#uses.delete(use)) this.touch();
      },
    };
    this.#uses.set(use, Date.now() + quietMs);
    return use;
  }

  /** It is in use just now. */
  touch(): void {
    this.#lastActiveAt = Date.now();
  }

  get #countsUntil(): number {
    let latest = 0;
    for (const until of this.#uses.values()) latest = Math.max(latest, until);
    return latest;
  }
}
