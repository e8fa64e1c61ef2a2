import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../e2e/instance.ts";
import { type ContainersOnHost, dockerContainers, embeddedContainers } from "./containers.ts";
import { ControlPlane } from "./control-plane.ts";
import { PrivateEngine } from "./engine.ts";
import { Host, dataDirOf } from "./host.ts";

export const ADMIN_KEY = "fault-suite-admin-key-0123456789";
const SIGNING_SECRET = "fault-suite-signing-secret-0123456789-0123456789";
const JOIN_MS = 30_000;

/** All that can be hurt: a control plane, a host, and on docker an engine. Nothing of it outlives this process. */
export class Site {
  readonly runtime: "docker" | "embedded";
  readonly directory: string;
  readonly controlPlane: ControlPlane;
  readonly host: Host;
  readonly engine: PrivateEngine | undefined;
  readonly containers: ContainersOnHost;
  readonly #janitor: ChildProcess;

  private constructor(parts: Omit<Site, "remove" | "untilUp" | "url"> & { janitor: ChildProcess }) {
    this.runtime = parts.runtime;
    this.directory = parts.directory;
    this.controlPlane = parts.controlPlane;
    this.host = parts.host;
    this.engine = parts.engine;
    this.containers = parts.containers;
    this.#janitor = parts.janitor;
  }

  static async start(runtime: "docker" | "embedded", onCrash: (what: string, output: string) => void): Promise<Site> {
    const directory = mkdtempSync(join(tmpdir(), "sbf-"));
    const janitor = spawn(process.execPath, [join(import.meta.dirname, "janitor.ts"), directory], {
      stdio: ["pipe", "inherit", "inherit"],
      detached: true,
    });
    janitor.stdin.on("error", () => undefined);
    const controlPlane = new ControlPlane({
      directory,
      port: await freePort(),
      adminKey: ADMIN_KEY,
      signingSecret: SIGNING_SECRET,
      onCrash: (output) => onCrash("the Worker", output),
    });
    controlPlane.migrate();
    controlPlane.start();
    const engine =
      runtime === "docker" ? new PrivateEngine(directory, (output) => onCrash("the engine", output)) : undefined;
    await engine?.prepare();
    const dataDir = dataDirOf(directory);
    mkdirSync(dataDir, { mode: 0o700 });
    const host = await Host.prepare({
      runtime,
      dataDir,
      port: await freePort(),
      controlPlaneUrl: controlPlane.url,
      signingSecret: SIGNING_SECRET,
      socketPath: engine?.socketPath,
      onCrash: (output) => onCrash("the host", output),
    });
    host.start();
    const containers = engine ? dockerContainers(engine.docker, host.hostId, dataDir) : embeddedContainers(dataDir);
    const site = new Site({ runtime, directory, controlPlane, host, engine, containers, janitor });
    await site.untilUp();
    return site;
  }

  get url(): string {
    return this.controlPlane.url;
  }

  /** Waits until the API answers and the host has joined. */
  async untilUp(): Promise<void> {
    await this.engine?.untilAnswers();
    await this.controlPlane.untilAnswers();
    for (const giveUpAt = Date.now() + JOIN_MS; Date.now() < giveUpAt;) {
      const hosts = await fetch(`${this.url}/v1/hosts`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } })
        .then((answer) => answer.json() as Promise<{ data?: { state: string }[] }>)
        .catch(() => undefined);
      if (hosts?.data?.some(({ state }) => state === "alive")) return;
      await new Promise((wake) => setTimeout(wake, 100));
    }
    throw new Error(`The host does not join:\n${this.host.output}\n${this.controlPlane.output}`);
  }

  /** Ends all of it in order, and what is left without. */
  async remove(): Promise<void> {
    await this.host.stop();
    await this.controlPlane.stop();
    await this.engine?.stop();
    const isClean = new Promise<void>((done) => this.#janitor.once("exit", () => done()));
    this.#janitor.stdin?.end();
    await isClean;
  }
}
