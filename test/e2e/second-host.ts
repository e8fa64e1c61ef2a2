import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import Docker from "dockerode";
import { Service } from "../faults/service.ts";
import { CountingProxy } from "./counting-proxy.ts";
import { freePort, Instance, sleep, type RuntimeName } from "./instance.ts";
import { missingForSecondEngine, SecondEngine } from "./second-engine.ts";

const CLI = resolve(import.meta.dirname, "../../src/host/cli.ts");
const JOIN_MS = 30_000;

/** A host daemon that has joined an instance and can be killed: nobody starts it again. What it sends is counted. */
export class JoinedHost {
  readonly hostId: string;
  readonly proxy: CountingProxy;
  readonly #instance: Instance;
  readonly #dataDir: string;
  readonly #docker: Docker | undefined;
  readonly #service: Service;

  private constructor(parts: {
    instance: Instance;
    hostId: string;
    proxy: CountingProxy;
    dataDir: string;
    docker: Docker | undefined;
    service: Service;
  }) {
    this.hostId = parts.hostId;
    this.proxy = parts.proxy;
    this.#instance = parts.instance;
    this.#dataDir = parts.dataDir;
    this.#docker = parts.docker;
    this.#service = parts.service;
  }

  /** On the machine's engine, unless there is another for it. `options` are more arguments; `own` is what its environment has. */
  static async join(
    instance: Instance,
    engine?: SecondEngine,
    { options = [], own = process.env }: { options?: string[]; own?: NodeJS.ProcessEnv } = {},
  ): Promise<JoinedHost> {
    const { runtime } = instance;
    const dataDir = mkdtempSync(join(tmpdir(), "sandbar-host-"));
    const proxy = await CountingProxy.start(instance.port);
    const body = { name: dataDir };
    const { host_id: hostId, token } = await instance.call<{ host_id: string; token: string }>("POST", "/hosts", body);
    const args = [CLI, "host", "--control-plane", proxy.url, "--listen", `127.0.0.1:${await freePort()}`];
    args.push("--data-dir", dataDir, "--runtime", runtime, "--ephemeral", ...options);
    const docker = engine ? { DOCKER_HOST: `unix://${engine.socketPath}` } : {};
    const env = { ...own, ...docker, SANDBAR_TOKEN: token };
    const spec = { command: process.execPath, args, env, isGroup: false };
    const service = new Service(spec, (output) => console.error(`A host ended:\n${output}`));
    const ofRuntime = runtime === "docker" ? (engine?.docker ?? new Docker()) : undefined;
    const host = new JoinedHost({ instance, hostId, proxy, dataDir, docker: ofRuntime, service });
    await host.start();
    return host;
  }

  get output(): string {
    return this.#service.output;
  }

  get isRunning(): boolean {
    return this.#service.isWanted;
  }

  /** Resolves once it has been heard of. */
  async start(): Promise<void> {
    if (this.isRunning) return;
    const startedAt = Date.now();
    this.#service.start();
    for (; Date.now() < startedAt + JOIN_MS; await sleep(100)) {
      const host = await this.#instance
        .call<{ last_seen_at?: string }>("GET", `/hosts/${this.hostId}`)
        .catch(() => undefined);
      if (host?.last_seen_at && Date.parse(host.last_seen_at) >= startedAt) return;
    }
    throw new Error(`The host did not join:\n${this.output}`);
  }

  /** Ends the daemon without a chance to do anything; its sandboxes go on. */
  kill(): Promise<void> {
    return this.#service.kill();
  }

  /** The ids of the snapshots that it has. */
  async images(): Promise<string[]> {
    const names = this.#docker ? await this.#references() : readdirSync(`${this.#dataDir}/images`);
    return names.flatMap((name) => /im-[a-z0-9]{22}$/.exec(name) ?? []);
  }

  /** Ends it, its sandboxes and all that it kept. */
  async remove(): Promise<void> {
    // A daemon that was killed left sandboxes, which the next one ends.
    await this.start().catch(() => undefined);
    await this.#service.stop();
    this.proxy.close();
    for (const reference of await this.#references()) await this.#docker?.getImage(reference).remove({ force: true });
    rmSync(this.#dataDir, { recursive: true, force: true });
  }

  /** The images of this host that its engine has. */
  async #references(): Promise<string[]> {
    const filters = { reference: [`sandbar/${this.hostId}`] };
    const images = (await this.#docker?.listImages({ filters }).catch(() => [])) ?? [];
    return images.flatMap(({ RepoTags }) => RepoTags ?? []);
  }
}

/** Why this runtime can have no two hosts that share nothing on this machine; undefined where it can. */
export function missingForTwoHosts(runtime: RuntimeName): string | undefined {
  return runtime === "docker" ? missingForSecondEngine() : undefined;
}

/** An instance with two hosts that share nothing but the registry: on docker each has an engine of its own. */
export class TwoHosts {
  readonly instance: Instance;
  readonly a: JoinedHost;
  readonly b: JoinedHost;
  readonly #engine: SecondEngine | undefined;

  private constructor(instance: Instance, a: JoinedHost, b: JoinedHost, engine: SecondEngine | undefined) {
    this.instance = instance;
    this.a = a;
    this.b = b;
    this.#engine = engine;
  }

  static async start(runtime: RuntimeName): Promise<TwoHosts> {
    const instance = await Instance.start(runtime);
    const [own] = (await instance.call<{ data: { host_id: string }[] }>("GET", "/hosts")).data;
    const a = await JoinedHost.join(instance);
    // The instance's own is started again whenever it ends: it must not take what is to be elsewhere.
    await instance.call("DELETE", `/hosts/${own!.host_id}`);
    const engine = runtime === "docker" ? await SecondEngine.start() : undefined;
    return new TwoHosts(instance, a, await JoinedHost.join(instance, engine), engine);
  }

  /** A sandbox that runs on this host, since the other is away while it starts. */
  async createOn(host: JoinedHost, body: object): Promise<string> {
    const other = host === this.a ? this.b : this.a;
    const wasRunning = other.isRunning;
    await other.kill();
    try {
      await host.start();
      const sandboxId = await this.instance.create(body);
      const sandbox = await this.instance.until(sandboxId, ["ready", "terminated", "finished"], 60_000);
      if (sandbox.state !== "ready") throw new Error(`${JSON.stringify(sandbox)}\n${host.output}`);
      return sandboxId;
    } finally {
      if (wasRunning) await other.start();
    }
  }

  async remove(): Promise<void> {
    await Promise.allSettled([this.a.remove(), this.b.remove()]);
    await this.#engine?.remove();
    await this.instance.remove();
  }
}
