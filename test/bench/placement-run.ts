import type { Demand, FleetHost, Grant, Holding } from "../../src/placement/policy/model.ts";
import { Scheduler } from "../../src/placement/policy/scheduler.ts";
import { EventQueue } from "./event-queue.ts";

export interface Arrivals {
  /** When the next comes, in seconds after the last, and what it is. */
  next(): { after: number; demand: (id: string, now: number) => Demand };
}

interface Ended {
  holding: Holding;
  type: string | undefined;
}

/** Sandboxes that come and end on a virtual clock, and what it costs to decide where they go. */
export class PlacementRun {
  readonly scheduler: Scheduler;
  /** Microseconds of real time for each request, and for each end with what is granted then. */
  readonly requests: number[] = [];
  readonly ends: number[] = [];
  /** Seconds from request to grant, by environment. */
  waits = new Map<string, number[]>();
  wholeHosts = { asked: 0, waited: 0, fragmented: 0 };
  refused = 0;
  now = 0;
  #made = 0;
  readonly #freeGpus = new Map<string, number>();
  readonly #typeOf = new Map<string, string>();
  readonly #ends = new EventQueue<Ended>();
  readonly #lifetime: () => number;

  constructor(hosts: FleetHost[], limits: { perEnvironment: number; total: number }, lifetime: () => number) {
    this.scheduler = new Scheduler(limits);
    this.#lifetime = lifetime;
    for (const host of hosts) {
      this.scheduler.putHost(host);
      for (const { uuid, type } of host.info.capacity?.gpus ?? []) {
        this.#typeOf.set(uuid, type);
        this.#freeGpus.set(type, (this.#freeGpus.get(type) ?? 0) + 1);
      }
    }
  }

  /** `sample` is called so many times on the way. */
  run(creates: number, arrivals: Arrivals, samples: number, sample: (progress: number) => void): void {
    const every = Math.floor(creates / samples);
    for (let made = 0; made < creates; made++) {
      const { after, demand } = arrivals.next();
      this.#advance(this.now + after);
      this.#request(demand(`sb-${this.#made++}`, this.now));
      if ((made + 1) % every === 0) sample((made + 1) / creates);
    }
  }

  /** What was measured so far is not of what comes. */
  forget(): void {
    this.waits = new Map();
    this.wholeHosts = { asked: 0, waited: 0, fragmented: 0 };
    this.refused = 0;
  }

  /** Microseconds in the scheduler. */
  get spent(): number {
    const sum = (times: number[]) => times.reduce((all, one) => all + one, 0);
    return sum(this.requests) + sum(this.ends);
  }

  #advance(until: number): void {
    for (let next = this.#ends.popUntil(until); next; next = this.#ends.popUntil(until)) {
      this.now = next.at;
      const { holding, type } = next.item;
      if (type !== undefined) this.#freeGpus.set(type, this.#freeGpus.get(type)! + holding.gpus.length);
      const begin = performance.now();
      this.scheduler.release(holding.id);
      const grants = this.scheduler.pump();
      this.ends.push((performance.now() - begin) * 1000);
      for (const { demand, grant } of grants) this.#granted(demand, grant);
    }
    this.now = until;
  }

  #request(demand: Demand): void {
    const begin = performance.now();
    const decision = this.scheduler.request(demand);
    this.requests.push((performance.now() - begin) * 1000);
    const [wish] = demand.gpus;
    if (wish?.count === 8) {
      this.wholeHosts.asked++;
      if (decision.kind !== "granted") this.wholeHosts.waited++;
      if (decision.kind !== "granted" && this.#freeGpus.get(wish.type)! >= 8) this.wholeHosts.fragmented++;
    }
    if (decision.kind === "granted") this.#granted(demand, decision.grant);
    if (decision.kind === "full") this.refused++;
  }

  #granted(demand: Demand, { holding }: Grant): void {
    const waits = this.waits.get(demand.environment);
    const waited = this.now - demand.since;
    if (waits) waits.push(waited);
    else this.waits.set(demand.environment, [waited]);
    const type = this.#typeOf.get(holding.gpus[0] ?? "");
    if (type !== undefined) this.#freeGpus.set(type, this.#freeGpus.get(type)! - holding.gpus.length);
    this.#ends.push(this.now + this.#lifetime(), { holding, type });
  }
}
