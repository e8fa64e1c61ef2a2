import { readFileSync } from "node:fs";
import Docker from "dockerode";
import type { Pool } from "../../src/contract/pool.ts";
import { type Instance, sleep } from "./instance.ts";
import { hostProcesses, killWorker, signalAll } from "./leftovers.ts";

const docker = new Docker();

/** What the engine has of an instance's host, and what that instance says of its pools. */
export class WarmContainers {
  readonly #instance: Instance;
  readonly #hostId: string;

  constructor(instance: Instance) {
    this.#instance = instance;
    const state = JSON.parse(readFileSync(`${instance.stateDirectory}/state.json`, "utf8")) as { hostId: string };
    this.#hostId = state.hostId;
  }

  /** The ids of all that its host has, by name. */
  async all(): Promise<Map<string, string>> {
    const filters = { label: [`dev.sandbar.host=${this.#hostId}`] };
    const containers = await docker.listContainers({ all: true, filters });
    return new Map(containers.map(({ Id, Names }) => [Id, Names[0]!]));
  }

  /** The ids of those that were started ahead, sandboxes' by now or not. */
  async ahead(): Promise<string[]> {
    return [...(await this.all())].filter(([, name]) => name.startsWith("/sandbar-wm-")).map(([id]) => id);
  }

  /** The container that a sandbox is in, by its own word. */
  async of(sandboxId: string): Promise<string> {
    const { stdout } = await this.#instance.exec(sandboxId, ["cat", "/etc/hostname"]);
    const found = [...(await this.all()).keys()].find((id) => id.startsWith(stdout.trim()));
    if (!found) throw new Error(`${sandboxId} says that it is in ${stdout}`);
    return found;
  }

  /** Ends one from outside, as an operator or the OOM killer might. */
  async kill(id: string): Promise<void> {
    await docker.getContainer(id).kill({ signal: "SIGKILL" });
  }

  pool(poolId: string): Promise<Pool> {
    return this.#instance.call("GET", `/pools/${poolId}`);
  }

  /** A pool that has all of its containers. */
  async fill(size: number, more: object = {}): Promise<string> {
    const { pool_id } = await this.#instance.call<Pool>("POST", "/pools", { size, ...more });
    await this.untilFull(pool_id);
    return pool_id;
  }

  /** Also over a restart of whoever is asked. */
  async untilFull(poolId: string, timeoutMs = 60_000): Promise<void> {
    let pool: Pool | undefined;
    for (const giveUpAt = Date.now() + timeoutMs; Date.now() < giveUpAt; await sleep(100)) {
      pool = await this.pool(poolId).catch(() => undefined);
      if (pool && pool.ready === pool.size && pool.starting === 0) return;
    }
    throw new Error(`The pool is not full: ${JSON.stringify(pool)}\n${this.#instance.output}`);
  }

  /** Ends the host daemon, or the Worker with all its objects, without a chance to do anything. Both are started again. */
  crash(what: "host" | "worker"): void {
    if (what === "host") return this.signalHost("SIGKILL");
    killWorker(this.#instance);
  }

  signalHost(signal: NodeJS.Signals): void {
    signalAll(hostProcesses(this.#instance), signal);
  }
}
