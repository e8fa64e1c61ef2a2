import type { Holding } from "./model.ts";
import { microCores } from "./want.ts";

interface Use {
  cpu: number;
  memory: number;
  gpus: number;
  holdings: number;
}

/** What each environment holds of the fleet. */
export class Shares {
  readonly #total: Readonly<Omit<Use, "holdings">>;
  readonly #uses = new Map<string, Use>();

  /** `total`: what all hosts have, as it is at any time. */
  constructor(total: Readonly<Omit<Use, "holdings">>) {
    this.#total = total;
  }

  charge(holding: Holding): void {
    this.#count(holding, 1);
  }

  release(holding: Holding): void {
    this.#count(holding, -1);
  }

  /** Of what it holds most of: its dominant share, after dominant resource fairness. */
  dominant(environment: string): number {
    const use = this.#uses.get(environment);
    return use ? this.of(use.cpu, use.memory, use.gpus) : 0;
  }

  /** The same of any amounts. */
  of(cpu: number, memory: number, gpus: number): number {
    const total = this.#total;
    return Math.max(share(cpu, total.cpu), share(memory, total.memory), share(gpus, total.gpus));
  }

  #count({ environment, cpu, memory, gpus }: Holding, sign: 1 | -1): void {
    let use = this.#uses.get(environment);
    if (!use) this.#uses.set(environment, (use = { cpu: 0, memory: 0, gpus: 0, holdings: 0 }));
    use.cpu += sign * microCores(cpu);
    use.memory += sign * memory;
    use.gpus += sign * gpus.length;
    use.holdings += sign;
    if (use.holdings === 0) this.#uses.delete(environment);
  }
}

const share = (part: number, total: number) => (total > 0 ? part / total : 0);
