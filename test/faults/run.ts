import { Client } from "./client.ts";
import type { CreateContext } from "./creates.ts";
import { Deadlines } from "./deadlines.ts";
import { Findings } from "./findings.ts";
import { readImages } from "./images.ts";
import { faultsOfRound, Injector } from "./injector.ts";
import { Invariants } from "./invariants.ts";
import { Ledger, type KnownSandbox } from "./ledger.ts";
import { OPERATIONS } from "./operations.ts";
import { RandomClient } from "./random-client.ts";
import type { Random } from "./random.ts";
import { Site } from "./site.ts";
import type { Tally } from "./tally.ts";

const CLIENTS = 4;
const ROUND_MS = 8_000;
/** So many live on into the next round. */
const KEPT = 4;
const NAMES = ["anna", "bert", "carl", "dora", "emil", "fritz"];

interface RunParts {
  site: Site;
  random: Random;
  tally: Tally;
  findings: Findings;
  ledger: Ledger;
}

/** One site, hurt again and again. */
export class FaultRun {
  readonly findings: Findings;
  readonly #site: Site;
  readonly #random: Random;
  readonly #client: Client;
  readonly #ledger: Ledger;
  readonly #injector: Injector;
  readonly #invariants: Invariants;
  readonly #clients: RandomClient[];
  #told = 0;
  readonly #context: CreateContext;

  private constructor(parts: RunParts) {
    const { site, random, tally, findings, ledger } = parts;
    this.findings = findings;
    this.#ledger = ledger;
    this.#site = site;
    this.#random = random;
    this.#client = new Client(() => site.url, findings);
    this.#injector = new Injector(site, ledger, tally, random.fork());
    this.#context = { client: this.#client, ledger, findings, random, names: NAMES };
    this.#invariants = new Invariants({ ...this.#context, site }, findings);
    this.#clients = Array.from(
      { length: CLIENTS },
      () => new RandomClient({ ...this.#context, random: random.fork(), takesSnapshots: site.runtime === "embedded" }),
    );
  }

  static async start(runtime: "docker" | "embedded", random: Random, tally: Tally): Promise<FaultRun> {
    const findings = new Findings();
    const ledger = new Ledger();
    const site = await Site.start(runtime, (what, output) => {
      // A host that loses the engine while it starts says so and ends, to be started again.
      const isEnginesFault = what === "the host" && ledger.isEngineOut && !output.includes("sandbar host ho-");
      if (!isEnginesFault) findings.add("nothing ends by itself", `${what}: ${output.slice(-600)}`);
    });
    return new FaultRun({ site, random, tally, findings, ledger });
  }

  /** Clients and faults, then peace, and all must be true again. */
  async round(number: number): Promise<void> {
    const over = new AbortController();
    const clients = this.#clients.map((client) => client.run(over.signal));
    await this.#injector.inject(faultsOfRound(this.#site.runtime, number), ROUND_MS);
    over.abort();
    await Promise.all(clients);
    const tookMs = await this.#invariants.hold();
    await this.#invariants.repeatCreates(this.#context);
    const { ok, refused, unknown } = this.#client.counts;
    console.log(
      `faults: ${this.#site.runtime} round ${number}: all true again after ${(tookMs / 1000).toFixed(1)} s; ` +
        `${this.#ledger.sandboxes.size} sandboxes, requests so far: ${ok} ok, ${refused} refused, ${unknown} unknown; ` +
        `${this.findings.all.length} violations`,
    );
    this.#tell();
    await this.#remove(this.#live().slice(KEPT));
  }

  /** Ends all that is left; everything that ever was is looked at once more. */
  async end(): Promise<void> {
    await readImages(this.#context);
    await this.#remove(this.#live());
    this.#invariants.unsettle();
    await this.#invariants.hold();
    const { running } = await this.#site.containers.census();
    if (running.size > 0) this.findings.add("no live container without a live sandbox", [...running].join(", "));
  }

  /** Checks of deadlines, with findings of their own. */
  deadlines(findings: Findings): Deadlines {
    return new Deadlines(this.#site, new Client(() => this.#site.url, findings), findings);
  }

  /** Takes down the site. */
  async close(): Promise<void> {
    await this.#site.remove();
  }

  /** What has been found since it was last told. */
  #tell(): void {
    for (const { rule, what } of this.findings.all.slice(this.#told)) console.log(`faults: ${rule}: ${what}`);
    this.#told = this.findings.all.length;
  }

  #live(): KnownSandbox[] {
    return [...this.#ledger.sandboxes.values()].filter((known) => known.isLive);
  }

  async #remove(sandboxes: KnownSandbox[]): Promise<void> {
    for (const known of sandboxes) await OPERATIONS.remove({ ...this.#context, random: this.#random }, known);
  }
}
