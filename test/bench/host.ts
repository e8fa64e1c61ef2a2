import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Agent, request, type IncomingMessage } from "node:http";
import { deriveHostKey, importHostKey, signRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { Instance, type RuntimeName } from "../e2e/instance.ts";
import { pidsOf } from "../e2e/leftovers.ts";
import { BenchClient } from "./client.ts";
import type { EngineCli } from "./engine.ts";
import { percentile, timed, type Row } from "./report.ts";

const GIB = 1024 ** 3;

export interface HostBenchOptions {
  runtime: RuntimeName;
  /** What it is compared with, where there is an engine. */
  engine: EngineCli | undefined;
  quick: boolean;
  /** How much one process writes in the memory test. */
  gib: string | undefined;
  add(row: Row): void;
}

/** Sandboxes on a host, through the whole of Sandbar, beside the engine's own command line on the same engine. */
export class HostBench {
  readonly #options: HostBenchOptions;
  readonly #instance: Instance;

  private constructor(options: HostBenchOptions, instance: Instance) {
    this.#options = options;
    this.#instance = instance;
  }

  static async run(options: HostBenchOptions): Promise<void> {
    const instance = await Instance.start(options.runtime);
    try {
      await new HostBench(options, instance).#run();
    } finally {
      await instance.remove();
    }
  }

  async #run(): Promise<void> {
    const client = new BenchClient(this.#instance);
    const create = async () => {
      const { sandbox_id } = await client.json<{ sandbox_id: string }>("POST", "/sandboxes", { timeout: 3600 });
      await client.exec(sandbox_id, ["true"]);
      return sandbox_id;
    };
    const sandboxId = await create();
    await this.#oneAtATime(client, sandboxId);
    await this.#atOnce(client, sandboxId);
    await this.#streams(client, sandboxId);
    await this.#manySandboxes(client, create);
  }

  /** One after the other, Sandbar and the engine by turns, so that both see the same machine. */
  async #oneAtATime(client: BenchClient, sandboxId: string): Promise<void> {
    const { quick, engine, add } = this.#options;
    const [ours, engines, hosts]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round < (quick ? 15 : 60); round++) {
      for (let index = 0; index < 5; index++) ours.push(await timed(() => client.exec(sandboxId, ["true"])));
      if (engine) engines.push(await timed(() => engine.exec(["true"])));
    }
    const host = await this.#hostCall();
    for (let index = 0; index < (quick ? 100 : 300); index++) {
      // Signing is the control plane's part.
      const call = await host(sandboxId);
      hosts.push(await timed(call));
    }
    const cli = (share: number) => (engine ? percentile(engines, share) : undefined);
    add({
      what: "exec `true`, p50",
      unit: "ms",
      ours: percentile(ours, 0.5),
      engine: cli(0.5),
      target: { atMost: 0.35 },
    });
    add({ what: "exec `true`, p95", unit: "ms", ours: percentile(ours, 0.95), engine: cli(0.95) });
    add({ what: "the host alone, p50", unit: "ms", ours: percentile(hosts, 0.5), engine: cli(0.5) });
  }

  async #atOnce(client: BenchClient, sandboxId: string): Promise<void> {
    const { quick, engine, add } = this.#options;
    for (const count of [1, 10, 20, 50]) {
      const [ours, engines]: [number[], number[]] = [[], []];
      const many = (run: () => Promise<void>) => timed(() => Promise.all(Array.from({ length: count }, run)));
      for (let round = 0; round < (quick ? 3 : 9); round++) {
        ours.push(await many(() => client.exec(sandboxId, ["true"])));
        if (engine && round % 3 === 0) engines.push(await many(() => engine.exec(["true"])));
      }
      add({
        what: `${count} at once, until the last has ended`,
        unit: "ms",
        ours: percentile(ours, 0.5),
        engine: engine && percentile(engines, 0.5),
        target: count === 20 ? { atMost: 0.2 } : undefined,
      });
    }
  }

  async #streams(client: BenchClient, sandboxId: string): Promise<void> {
    const { quick, engine, add } = this.#options;
    const [first, engineFirst]: [number[], number[]] = [[], []];
    for (let round = 0; round < (quick ? 8 : 25); round++) {
      const command = ["sh", "-c", "echo first; sleep 0.1"];
      first.push(await client.firstByte(sandboxId, command));
      if (engine) engineFirst.push(await engine.firstByte(command));
    }
    const cliFirst = engine && percentile(engineFirst, 0.5);
    add({ what: "first byte of a streamed exec, p50", unit: "ms", ours: percentile(first, 0.5), engine: cliFirst });

    const size = quick ? GIB : 2 * GIB;
    const [rates, engineRates]: [number[], number[]] = [[], []];
    for (let round = 0; round < 3; round++) {
      const { seconds, bytes } = await client.drain(sandboxId, ["head", "-c", String(size), "/dev/zero"]);
      if (bytes !== size) throw new Error(`${size - bytes} bytes are missing`);
      rates.push(size / 1e6 / seconds);
      if (engine) engineRates.push(size / 1e6 / (await engine.piped(`head -c ${size} /dev/zero`)));
    }
    const cliRate = engine && percentile(engineRates, 0.5);
    const target = { atLeast: 0.8 };
    add({ what: "stdout of one process", unit: "MB/s", ours: percentile(rates, 0.5), engine: cliRate, target });

    const gib = Number(this.#options.gib ?? (quick ? 1 : 10));
    const pid = pidsOf(`cli.ts host.*${this.#instance.stateDirectory}`)[0]!;
    const before = residentMib(pid);
    let most = before;
    const watch = setInterval(() => (most = Math.max(most, residentMib(pid))), 100);
    const { bytes } = await client.drain(sandboxId, ["head", "-c", String(gib * GIB), "/dev/zero"]);
    clearInterval(watch);
    if (bytes !== gib * GIB) throw new Error(`${gib * GIB - bytes} bytes are missing`);
    add({ what: `growth of the host's memory over ${gib} GiB of stdout`, unit: "MiB", ours: most - before });

    const echoes = await client.echoes(sandboxId, quick ? 100 : 300);
    const engineEchoes = await engine?.echoes(quick ? 100 : 300);
    const cliEcho = engineEchoes && percentile(engineEchoes, 0.5);
    add({ what: "echo over the attached socket, p50", unit: "ms", ours: percentile(echoes, 0.5), engine: cliEcho });
  }

  async #manySandboxes(client: BenchClient, create: () => Promise<string>): Promise<void> {
    const { quick, add } = this.#options;
    const sandboxes: string[] = [];
    for (let index = 0; index < (quick ? 5 : 20); index++) sandboxes.push(await create());
    const each = quick ? 10 : 20;
    const begin = performance.now();
    await Promise.all(
      sandboxes.map(async (sandboxId) => {
        for (let index = 0; index < each; index++) await client.exec(sandboxId, ["true"]);
      }),
    );
    const ours = (sandboxes.length * each) / ((performance.now() - begin) / 1000);
    add({ what: `execs in ${sandboxes.length} sandboxes at once`, unit: "per s", ours });
  }

  /** Asks the host itself, as the control plane does. */
  async #hostCall(): Promise<(sandboxId: string) => Promise<() => Promise<void>>> {
    const state = JSON.parse(readFileSync(`${this.#instance.stateDirectory}/state.json`, "utf8")) as {
      hostId: string;
      signingSecret: string;
      hostPort: number;
    };
    const key = await importHostKey(await deriveHostKey(state.signingSecret, state.hostId));
    const agent = new Agent({ keepAlive: true });
    return async (sandboxId) => {
      const path = `/v1/sandboxes/${sandboxId}/processes?wait_ms=60000`;
      const headers = { "x-sandbar-signature": await signRequest(key, state.hostId, "POST", path) };
      const body = JSON.stringify({ process_id: newId("process"), command: ["true"], env: {} });
      const options = { agent, host: "127.0.0.1", port: state.hostPort, method: "POST", path, headers };
      return async () => {
        const answer = await new Promise<IncomingMessage>((resolve, reject) => {
          request(options, resolve).on("error", reject).end(body);
        });
        answer.resume();
        await once(answer, "end");
        if (answer.statusCode !== 200) throw new Error(`The host answered ${answer.statusCode}.`);
      };
    };
  }
}

function residentMib(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
}
