import type { D1Mode } from "./d1-mode.ts";
import type { Ledger } from "./ledger.ts";
import type { Random } from "./random.ts";
import type { Site } from "./site.ts";
import type { Tally } from "./tally.ts";

export const FAULTS = {
  worker: "kill -9 of the Worker",
  host: "kill -9 of the host daemon",
  container: "kill -9 of a container",
  engineRestored: "kill -9 of the engine, live restore",
  engineLost: "kill -9 of the engine and all on it",
  d1Fails: "D1 fails",
  d1LosesAnswers: "D1 loses its answers",
  d1Random: "D1 does either, at random",
} as const;
export type Fault = keyof typeof FAULTS;

const RETRY_MS = 200;
const MAX_ATTEMPTS = 40;
const sleep = (ms: number) => new Promise<void>((wake) => setTimeout(wake, ms));

/** Injects faults into a site, each when it can be, and counts those that happened. */
export class Injector {
  readonly #site: Site;
  readonly #ledger: Ledger;
  readonly #tally: Tally;
  readonly #random: Random;
  /** One fault at a time in each of the parts. */
  readonly #busy = new Set<string>();

  constructor(site: Site, ledger: Ledger, tally: Tally, random: Random) {
    this.#site = site;
    this.#ledger = ledger;
    this.#tally = tally;
    this.#random = random;
  }

  /** Injects all of them at random moments within so long; resolves when the last one is over and all is up again. */
  async inject(faults: readonly Fault[], withinMs: number): Promise<void> {
    const at = faults.map(() => this.#random.between(0, withinMs));
    await Promise.all(faults.map((fault, index) => sleep(at[index]!).then(() => this.#once(fault))));
    await this.#site.untilUp();
  }

  async #once(fault: Fault): Promise<void> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      if (await this.#try(fault)) return this.#tally.add(FAULTS[fault], this.#site.runtime);
      await sleep(RETRY_MS);
    }
  }

  /** False when it cannot be done now. */
  async #try(fault: Fault): Promise<boolean> {
    switch (fault) {
      case "worker":
        return this.#alone("worker", () => this.#outage(this.#site.controlPlane, 0, 4000));
      case "host":
        return this.#alone("host", () => this.#outage(this.#site.host, 0, 3000));
      case "container":
        return this.#killContainer();
      case "engineRestored":
      case "engineLost":
        return this.#alone("engine", () => this.#killEngine(fault === "engineRestored"));
      case "d1Fails":
        return this.#alone("d1", () => this.#d1({ kind: "fail" }));
      case "d1LosesAnswers":
        return this.#alone("d1", () => this.#d1({ kind: "lose-answers" }));
      case "d1Random":
        return this.#alone("d1", () => this.#d1({ kind: "random", fraction: this.#random.between(0.1, 0.9) }));
    }
  }

  async #alone(part: string, work: () => Promise<boolean>): Promise<boolean> {
    if (this.#busy.has(part)) return false;
    this.#busy.add(part);
    try {
      return await work();
    } finally {
      this.#busy.delete(part);
    }
  }

  async #outage(part: { kill(): Promise<void>; start(): void }, minMs: number, maxMs: number): Promise<boolean> {
    this.#note(part === this.#site.host ? "host down" : "Worker down");
    await part.kill();
    await sleep(this.#random.between(minMs, maxMs));
    part.start();
    this.#note(part === this.#site.host ? "host up" : "Worker up");
    return true;
  }

  async #killContainer(): Promise<boolean> {
    const census = await this.#site.containers.census().catch(() => undefined);
    if (!census || census.running.size === 0) return false;
    const sandboxId = this.#random.pick([...census.running]);
    if (!(await this.#site.containers.kill(sandboxId))) return false;
    this.#note(`kill of ${sandboxId}`);
    this.#ledger.killed.add(sandboxId);
    return true;
  }

  async #killEngine(restores: boolean): Promise<boolean> {
    const engine = this.#site.engine;
    if (!engine) return false;
    const outage = { from: Date.now(), until: Infinity, restores };
    this.#ledger.outages.push(outage);
    this.#note("engine down");
    await engine.kill();
    await sleep(this.#random.between(1000, 3000));
    engine.start({ restores });
    await engine.untilAnswers();
    outage.until = Date.now();
    this.#note("engine up");
    return true;
  }

  /** A window of it counts when it has hit a call. */
  async #d1(mode: D1Mode): Promise<boolean> {
    const { controlPlane } = this.#site;
    const isOn = (await controlPlane.switchD1(mode)) !== undefined;
    if (isOn) {
      this.#note(`D1 ${mode.kind}`);
      await sleep(this.#random.between(200, 2000));
    }
    // Also where it was not said to be on: it may be, or be so in a moment.
    const hits = await controlPlane.restoreD1();
    if (!isOn) return false;
    this.#note("D1 ok");
    return hits !== undefined && hits > 0;
  }

  #note(fault: string): void {
    this.#ledger.faults.push({ at: Date.now(), fault });
  }
}

/** The faults of one round, in any order. */
export function faultsOfRound(runtime: "docker" | "embedded", round: number): Fault[] {
  const faults: Fault[] = ["worker", "host", "host", "d1Fails", "d1LosesAnswers", "d1Random", "d1Random"];
  faults.push("container", "container", "container", "container");
  if (round % 2 === 0) faults.push("worker");
  if (runtime === "docker") faults.push(round % 4 === 3 ? "engineLost" : "engineRestored");
  return faults;
}
