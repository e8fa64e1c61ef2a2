import type { Pool } from "../../src/contract/pool.ts";
import { Instance, sleep } from "../e2e/instance.ts";
import { BenchClient } from "./client.ts";
import type { EngineCli } from "./engine.ts";
import { percentile, timed, type Row } from "./report.ts";

const BURST = 50;
/** The first few find connections, code and images not yet in place: all three kinds are run so often before they count. */
const WARM_UP = 2;
const REFILL_MS = 60_000;
const REST_MS = 250;
/** As the pool's containers are, but for one thing: none of them fits. */
const COLD = { workdir: "/", timeout: 3600 };

/** From a create to the answer of its first exec, with and without a warm pool, beside `docker run` on the same engine. */
export async function benchCreates(engine: EngineCli, quick: boolean, add: (row: Row) => void): Promise<void> {
  const instance = await Instance.start("docker");
  try {
    await new CreateBench(new BenchClient(instance), engine).run(quick, add);
  } finally {
    await instance.remove();
  }
}

class CreateBench {
  readonly #client: BenchClient;
  readonly #engine: EngineCli;
  #created: string[] = [];

  constructor(client: BenchClient, engine: EngineCli) {
    this.#client = client;
    this.#engine = engine;
  }

  async run(quick: boolean, add: (row: Row) => void): Promise<void> {
    await this.#oneAtATime(quick ? 8 : 40, add);
    await this.#atOnce(quick ? BURST / 2 : BURST, add);
  }

  /** Warm, the engine and cold by turns, so that all see the same machine. */
  async #oneAtATime(rounds: number, add: (row: Row) => void): Promise<void> {
    const { pool_id: poolId } = await this.#client.json<Pool>("POST", "/pools", { size: 1 });
    const [warm, cold, engines]: [number[], number[], number[]] = [[], [], []];
    const kinds = [
      [warm, () => this.#use({ timeout: 3600 })],
      [engines, () => this.#engine.run(["true"])],
      [cold, () => this.#use(COLD)],
    ] as const;
    for (let round = -WARM_UP; round < rounds; round++) {
      for (const [times, run] of kinds) {
        // No refill goes on beside it, and nothing is removed, reported or published of the one before.
        await this.#untilReady(poolId);
        await sleep(REST_MS);
        const took = await timed(run);
        await this.#removeAll();
        if (round >= 0) times.push(took);
      }
    }
    await this.#client.run("DELETE", `/pools/${poolId}`);
    const engine = percentile(engines, 0.5);
    const late = percentile(engines, 0.95);
    const what = "create to the end of its first exec";
    const of = (times: number[], share: number) => ({ unit: "ms", ours: percentile(times, share) }) as const;
    add({ what: `${what}, warm, p50`, ...of(warm, 0.5), engine, target: { atMost: 0.2 } });
    add({ what: `${what}, warm, p95`, ...of(warm, 0.95), engine: late });
    add({ what: `${what}, cold, p50`, ...of(cold, 0.5), engine, target: { atMost: 1.3 } });
    add({ what: `${what}, cold, p95`, ...of(cold, 0.95), engine: late });
  }

  async #atOnce(count: number, add: (row: Row) => void): Promise<void> {
    const [ours, engines]: [number[], number[]] = [[], []];
    const many = (times: number[], run: () => Promise<void>) =>
      Promise.allSettled(Array.from({ length: count }, async () => times.push(await timed(run))));
    const outcomes = await many(ours, () => this.#use(COLD));
    await this.#removeAll();
    await many(engines, () => this.#engine.run(["true"]));
    for (const outcome of outcomes) if (outcome.status === "rejected") console.error(String(outcome.reason));
    const what = `${count} creates at once, cold`;
    add({ what: `${what}: that succeed`, unit: "", ours: ours.length, engine: count, target: { atLeast: 1 } });
    for (const [name, share] of [
      ["p50", 0.5],
      ["p95", 0.95],
    ] as const) {
      const engine = percentile(engines, share);
      add({
        what: `${what}: to the end of the first exec, ${name}`,
        unit: "ms",
        ours: percentile(ours, share),
        engine,
      });
    }
  }

  /** A sandbox, and a command in it. */
  async #use(create: object): Promise<void> {
    const { sandbox_id } = await this.#client.json<{ sandbox_id: string }>("POST", "/sandboxes", create);
    this.#created.push(sandbox_id);
    await this.#client.exec(sandbox_id, ["true"]);
  }

  async #removeAll(): Promise<void> {
    const created = this.#created;
    this.#created = [];
    await Promise.all(created.map((sandboxId) => this.#client.run("DELETE", `/sandboxes/${sandboxId}`)));
  }

  async #untilReady(poolId: string): Promise<void> {
    for (const giveUpAt = Date.now() + REFILL_MS; ;) {
      const pool = await this.#client.json<Pool>("GET", `/pools/${poolId}`);
      if (pool.ready === pool.size) return;
      if (Date.now() > giveUpAt) throw new Error(`The pool is not filled: ${JSON.stringify(pool)}`);
      await sleep(50);
    }
  }
}
