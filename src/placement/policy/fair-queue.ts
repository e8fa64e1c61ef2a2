import type { Demand } from "./model.ts";
import { isNoMore, type Want } from "./want.ts";

/** Of one environment, and of one want: first come, first served. */
export interface Line {
  readonly environment: string;
  readonly want: Want;
  /** Never empty. */
  readonly waiting: Waiting[];
  /** How many grants there had been when it began. */
  readonly grantsBefore: number;
  /** At which state of the fleet no host was found that could be kept for it. */
  notKeptAt?: number;
}

export interface Waiting {
  readonly demand: Demand;
  readonly line: Line;
}

/**
 * Those who wait. Between environments the one that holds the least goes first, and in one who came first, of those who have room:
 * who wants no more than another and came before it is always among them when the other is.
 */
export class FairQueue {
  readonly #shareOf: (environment: string) => number;
  readonly #byId = new Map<string, Waiting>();
  readonly #wants = new Map<string, { want: Want; lines: Map<string, Line> }>();
  readonly #lengths = new Map<string, number>();
  /** Grants, of those in line and of others. */
  #grants = 0;

  /** `shareOf`: how much of the fleet an environment holds. */
  constructor(shareOf: (environment: string) => number) {
    this.#shareOf = shareOf;
  }

  get size(): number {
    return this.#byId.size;
  }

  sizeOf(environment: string): number {
    return this.#lengths.get(environment) ?? 0;
  }

  get(id: string): Waiting | undefined {
    return this.#byId.get(id);
  }

  /** What those who wait want; the same object for all who want the same. */
  known(want: Want): Want | undefined {
    return this.#wants.get(want.key)?.want;
  }

  add(demand: Demand, wanted: Want): Waiting {
    let lines = this.#wants.get(wanted.key);
    if (!lines) this.#wants.set(wanted.key, (lines = { want: wanted, lines: new Map() }));
    const { environment } = demand;
    let line = lines.lines.get(environment);
    if (!line) {
      line = { environment, want: lines.want, waiting: [], grantsBefore: this.#grants };
      lines.lines.set(environment, line);
    }
    const entry: Waiting = { demand, line };
    let at = line.waiting.length;
    while (at > 0 && line.waiting[at - 1]!.demand.since > demand.since) at--;
    line.waiting.splice(at, 0, entry);
    this.#byId.set(demand.id, entry);
    this.#lengths.set(environment, this.sizeOf(environment) + 1);
    return entry;
  }

  remove(id: string): Waiting | undefined {
    const entry = this.#byId.get(id);
    if (!entry) return undefined;
    const { line } = entry;
    this.#byId.delete(id);
    const left = this.sizeOf(line.environment) - 1;
    if (left > 0) this.#lengths.set(line.environment, left);
    else this.#lengths.delete(line.environment);
    line.waiting.splice(line.waiting.indexOf(entry), 1);
    if (line.waiting.length > 0) return entry;
    const lines = this.#wants.get(line.want.key)!;
    lines.lines.delete(line.environment);
    if (lines.lines.size === 0) this.#wants.delete(line.want.key);
    return entry;
  }

  /** Somebody was granted something: those who wait on have been passed over. */
  granted(): void {
    this.#grants++;
  }

  /** Who goes first among those whose want has room. */
  next(hasRoom: (want: Want) => boolean): Waiting | undefined {
    let best: { head: Waiting; share: number } | undefined;
    for (const { want, lines } of this.#wants.values()) {
      if (!hasRoom(want)) continue;
      for (const line of lines.values()) {
        const head = line.waiting[0]!;
        const share = this.#shareOf(line.environment);
        const isFirst = !best || share < best.share || (share === best.share && isOlder(head, best.head));
        if (isFirst) best = { head, share };
      }
    }
    return best?.head;
  }

  /** The oldest of its environment that wants the same class and no more, of those that `may` have it; itself where there is none. */
  firstBefore(waiting: Waiting, may: (want: Want) => boolean): Waiting {
    const { environment, want: wanted } = waiting.line;
    let first = waiting;
    for (const { want, lines } of this.#wants.values()) {
      const head = lines.get(environment)?.waiting[0];
      if (head && isOlder(head, first) && isNoMore(want, wanted) && may(want)) first = head;
    }
    return first;
  }

  /** The lines past which so many grants have gone. */
  *passedOver(times: number): Iterable<Line> {
    for (const { lines } of this.#wants.values()) {
      for (const line of lines.values()) if (this.#grants - line.grantsBefore >= times) yield line;
    }
  }
}

/** Who came first; of those who came at once always the same. */
export const isOlder = (a: Waiting, b: Waiting) =>
  a.demand.since !== b.demand.since ? a.demand.since < b.demand.since : a.demand.id < b.demand.id;
