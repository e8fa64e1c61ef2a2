import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, rmSync } from "node:fs";
import type { StartSpec, WarmSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { DockerHost, IMAGE } from "./docker-host.ts";
import type { ReportTaker } from "./report-taker.ts";
import { SignedHost, text, until } from "./signed-host.ts";

export function warmSpec(more: Partial<WarmSpec> = {}): WarmSpec {
  return { warm_id: newId("warm"), environment: "main", image: IMAGE, ...more };
}

/** What the engine says of a container by its name; undefined where it has none. */
export function inspectWarm(warmId: string, format: string): string | undefined {
  try {
    return execFileSync("docker", ["inspect", `sandbar-${warmId}`, "-f", format], { stdio: "pipe" })
      .toString()
      .trim();
  } catch {
    return undefined;
  }
}

/** A daemon on the real engine, with warm containers. */
export class WarmHost {
  readonly docker: DockerHost;
  readonly signed: SignedHost;
  #wanted: WarmSpec[] = [];

  private constructor(docker: DockerHost, signed: SignedHost) {
    this.docker = docker;
    this.signed = signed;
  }

  static async start(taker?: ReportTaker, options: { useLauncher?: boolean } = {}): Promise<WarmHost> {
    const docker = await DockerHost.open(options);
    const { dataDir } = docker;
    return new WarmHost(docker, await SignedHost.start(docker.runtime, { dataDir, controlPlaneUrl: taker?.url }));
  }

  get shelf() {
    return this.signed.daemon.warm!;
  }

  /** Orders one more, with all that were ordered before. */
  order(more: Partial<WarmSpec> = {}): string {
    const spec = warmSpec(more);
    const here = new Set(this.shelf.list().map(({ warm_id }) => warm_id));
    this.#wanted = [...this.#wanted.filter(({ warm_id }) => here.has(warm_id)), spec];
    this.shelf.converge(this.#wanted);
    return spec.warm_id;
  }

  /** The id of one that is ready. */
  async ready(more: Partial<WarmSpec> = {}): Promise<string> {
    const warmId = this.order(more);
    await this.until(warmId, "ready");
    return warmId;
  }

  until(warmId: string, state: string | undefined): Promise<void> {
    return until(() => this.stateOf(warmId) === state, 20_000);
  }

  stateOf(warmId: string): string | undefined {
    return this.shelf.list().find(({ warm_id }) => warm_id === warmId)?.state;
  }

  /** Starts a sandbox; its path, how, and in how many milliseconds. */
  async create(more: Partial<StartSpec> = {}) {
    const spec = this.signed.spec({ image: IMAGE, ...more });
    const begun = performance.now();
    const { json, status } = await this.signed.put(spec);
    return { box: `/v1/sandboxes/${spec.sandbox_id}`, spec, json, status, ms: performance.now() - begun };
  }

  /** Whether the sandbox runs in that container: as a process of it sees its own. */
  async isIn(box: string, warmId: string): Promise<boolean> {
    const { output } = await this.signed.exec(box, ["cat", "/etc/hostname"]);
    return text(output?.stdout).trim() === inspectWarm(warmId, "{{.Config.Hostname}}");
  }

  async close(): Promise<string[]> {
    await this.signed.daemon.close({ stopContainers: true });
    const { docker } = this;
    const runtimeDir = await docker.runtimeDir();
    const stateDir = `${docker.dataDir}/docker`;
    const left = [
      docker.left(),
      ...[runtimeDir, stateDir].flatMap((dir) => (existsSync(dir) ? readdirSync(dir) : [])),
    ].filter((name) => name !== "");
    for (const dir of [runtimeDir, docker.dataDir]) rmSync(dir, { recursive: true, force: true });
    return left;
  }
}
