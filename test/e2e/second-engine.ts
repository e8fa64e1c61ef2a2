import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import Docker from "dockerode";
import { Service } from "../faults/service.ts";
import { sleep } from "./instance.ts";

const DOCKERD = "/usr/sbin/dockerd";
const READY_MS = 30_000;
/** Where hosts look for the network of their sandboxes. */
const NETWORK = "sandbar";
const run = promisify(execFile);

/** Why this machine can have no second engine; undefined where it can. */
export function missingForSecondEngine(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can run an engine of its own";
  if (!existsSync(DOCKERD)) return `there is no ${DOCKERD}`;
  try {
    execFileSync("ip", ["-V"], { stdio: "pipe" });
    return undefined;
  } catch {
    return "there is no ip (iproute2)";
  }
}

/**
 * A Docker engine without any image, in this network namespace: it sees the loopback, where hosts have their gateways. It leaves
 * the machine's filters alone, and has bridges of its own: started with none, an engine would remove the `docker0` of another.
 */
export class SecondEngine {
  readonly docker: Docker;
  readonly socketPath: string;
  readonly #directory: string;
  readonly #service: Service;
  readonly #bridge: string;

  private constructor(directory: string, bridge: string, env: NodeJS.ProcessEnv | undefined) {
    this.#directory = directory;
    this.#bridge = bridge;
    const at = (name: string) => join(directory, name);
    this.socketPath = at("engine.sock");
    this.docker = new Docker({ socketPath: this.socketPath, headers: { Connection: "close" } });
    writeFileSync(at("engine.json"), "{}");
    const args = ["--config-file", at("engine.json"), "-H", `unix://${this.socketPath}`, "--pidfile", at("engine.pid")];
    args.push("--data-root", at("data"), "--exec-root", at("exec"), "--log-level", "error");
    args.push("--bridge", bridge, "--iptables=false", "--ip6tables=false");
    args.push("--default-address-pool", "base=10.213.0.0/16,size=24");
    const spec = { command: DOCKERD, args, cwd: directory, isGroup: false, ...(env && { env }) };
    this.#service = new Service(spec, (output) => console.error(`The second engine ended:\n${output}`));
  }

  static async start(env?: NodeJS.ProcessEnv): Promise<SecondEngine> {
    const bridge = `sbx${Math.random().toString(36).slice(2, 8)}`;
    const engine = new SecondEngine(mkdtempSync(join(tmpdir(), "sandbar-engine-")), bridge, env);
    await run("ip", ["link", "add", bridge, "type", "bridge"]);
    await run("ip", ["address", "add", `10.214.${Math.floor(Math.random() * 256)}.1/24`, "dev", bridge]);
    engine.#service.start();
    try {
      await engine.#untilAnswers();
      const name = `${bridge}s`;
      const Options = { "com.docker.network.bridge.enable_icc": "false", "com.docker.network.bridge.name": name };
      await engine.docker.createNetwork({ Name: NETWORK, Driver: "bridge", Options });
      return engine;
    } catch (error) {
      await engine.remove();
      throw error;
    }
  }

  /** Ends it and removes all that it had. */
  async remove(): Promise<void> {
    const containers = await this.docker.listContainers({ all: true }).catch(() => []);
    await Promise.allSettled(containers.map(({ Id }) => this.docker.getContainer(Id).remove({ force: true })));
    await this.docker
      .getNetwork(NETWORK)
      .remove()
      .catch(() => undefined);
    await this.#service.stop();
    await run("ip", ["link", "delete", this.#bridge]).catch(() => undefined);
    await run("sh", ["-c", `grep -o '${this.#directory}/[^ ]*' /proc/mounts | sort -ru | xargs -r umount -l`]);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #untilAnswers(): Promise<void> {
    for (const giveUpAt = Date.now() + READY_MS; Date.now() < giveUpAt; await sleep(100)) {
      if (await this.docker.ping().catch(() => undefined)) return;
    }
    throw new Error(`The second engine does not answer:\n${this.#service.output}`);
  }
}
