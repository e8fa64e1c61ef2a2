import type { Client } from "./client.ts";
import { create, newRequest } from "./creates.ts";
import type { Findings } from "./findings.ts";
import type { KnownSandbox, Ledger } from "./ledger.ts";
import { listAll, OPERATIONS } from "./operations.ts";
import type { Random } from "./random.ts";

const MAX_LIVE = 5;
const [MIN_PAUSE_MS, MAX_PAUSE_MS] = [5, 120];

export interface RandomClientOptions {
  client: Client;
  ledger: Ledger;
  findings: Findings;
  random: Random;
  names: readonly string[];
  /** Only where the engine reaches its host's loopback, through which images travel. */
  takesSnapshots: boolean;
}

/** A client that does anything to sandboxes of its own, one thing after the other. */
export class RandomClient {
  readonly #options: RandomClientOptions;
  readonly #own: KnownSandbox[] = [];

  constructor(options: RandomClientOptions) {
    this.#options = options;
  }

  /** Goes on until it is told to stop, and finishes what it is at. */
  async run(stop: AbortSignal): Promise<void> {
    const { random } = this.#options;
    while (!stop.aborted) {
      await this.#step();
      await new Promise((wake) => setTimeout(wake, random.between(MIN_PAUSE_MS, MAX_PAUSE_MS)));
    }
  }

  async #step(): Promise<void> {
    const { random, client } = this.#options;
    const live = this.#own.filter((sandbox) => sandbox.isLive);
    const what = random.weighted({
      create: live.length < MAX_LIVE ? 25 : 0,
      exec: 14,
      execOnce: 10,
      writeFile: 10,
      readFile: 8,
      get: 8,
      wait: 4,
      patch: 8,
      snapshot: this.#options.takesSnapshots ? 4 : 0,
      remove: live.length < MAX_LIVE ? 5 : 30,
      list: 3,
    });
    if (what === "list") return void (await listAll(client, random.int(5, 200)));
    if (what === "create" || live.length === 0) return this.#create();
    // One that has ended now and then: it is to be told so.
    const isOld = random.chance(0.05);
    return OPERATIONS[what](this.#options, random.pick(isOld ? this.#own : live));
  }

  async #create(): Promise<void> {
    const { random } = this.#options;
    const sandbox = await create(this.#options, newRequest(this.#options));
    if (!sandbox) return;
    this.#own.push(sandbox);
    if (random.chance(0.15)) await OPERATIONS.remove(this.#options, sandbox);
  }
}
