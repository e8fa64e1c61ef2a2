import { execFile, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import Docker from "dockerode";
import { Service } from "./service.ts";

const DOCKERD = "/usr/sbin/dockerd";
const IMAGE = "debian:bookworm-slim";
const READY_MS = 30_000;

/** Why there can be no engine of this suite's own; undefined where there can. */
export function missingForEngine(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can run an engine of its own";
  if (!existsSync(DOCKERD)) return `there is no ${DOCKERD}`;
  try {
    execFileSync("docker", ["image", "inspect", IMAGE], { stdio: "pipe" });
    return undefined;
  } catch {
    return `no engine has the image ${IMAGE} to copy`;
  }
}

/**
 * A Docker engine of this suite's own, in a network namespace of its own: its bridges and filters are nobody else's, and it
 * may be killed without harm to the machine's.
 */
export class PrivateEngine {
  readonly socketPath: string;
  readonly docker: Docker;
  readonly #directory: string;
  readonly #onCrash: (output: string) => void;
  #service: Service | undefined;
  #namespace = 0;

  constructor(directory: string, onCrash: (output: string) => void) {
    this.#directory = directory;
    this.#onCrash = onCrash;
    this.socketPath = join(directory, "engine.sock");
    this.docker = new Docker({ socketPath: this.socketPath, headers: { Connection: "close" } });
  }

  /** Makes the network namespace and the first engine in it, with the image. */
  async prepare(): Promise<void> {
    mkdirSync(join(this.#directory, "engine"), { recursive: true });
    const hold = "ip link set lo up && echo up && exec sleep infinity";
    const holder = spawn("unshare", ["--net", "sh", "-c", hold], {
      cwd: this.#directory,
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise<void>((up, fail) => {
      holder.stdout.once("data", () => up());
      holder.once("exit", (code) => fail(new Error(`No network namespace can be made (code ${code}).`)));
    });
    holder.unref();
    this.#namespace = holder.pid!;
    this.start({ restores: false });
    await this.untilAnswers();
    await promisify(execFile)("sh", ["-c", `docker save ${IMAGE} | docker -H unix://${this.socketPath} load`]);
  }

  get isWanted(): boolean {
    return this.#service?.isWanted ?? false;
  }

  /** With `restores` it takes over the containers that an engine before it left running; else it ends them. */
  start({ restores }: { restores: boolean }): void {
    const at = (name: string) => join(this.#directory, name);
    writeFileSync(at("engine.json"), JSON.stringify({ "live-restore": restores }));
    const args = ["--target", String(this.#namespace), "--net", "--", DOCKERD, "--config-file", at("engine.json")];
    args.push("-H", `unix://${this.socketPath}`, "--data-root", at("engine"), "--exec-root", at("exec"));
    // Without --bip the bridge of this engine reports no gateway.
    args.push("--pidfile", at("engine.pid"), "--bip", "172.17.0.1/16", "--log-level", "error");
    this.#service = new Service({ command: "nsenter", args, cwd: this.#directory, isGroup: false }, this.#onCrash);
    this.#service.start();
  }

  /** Kills the engine and the containerd that it runs; what they started goes on. */
  async kill(): Promise<void> {
    await this.#service?.kill();
    const pidFile = join(this.#directory, "exec/containerd/containerd.pid");
    const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, "utf8")) : 0;
    while (isOurs(pid, this.#directory)) {
      process.kill(pid, "SIGKILL");
      await new Promise((wake) => setTimeout(wake, 20));
    }
    // Where nobody reaps orphans its number stays taken, and the next engine would wait for it in vain.
    rmSync(pidFile, { force: true });
  }

  async stop(): Promise<void> {
    await this.#service?.stop();
  }

  async untilAnswers(): Promise<void> {
    for (const giveUpAt = Date.now() + READY_MS; Date.now() < giveUpAt;) {
      if (await this.docker.ping().catch(() => undefined)) return;
      await new Promise((wake) => setTimeout(wake, 100));
    }
    throw new Error(`The engine does not answer:\n${this.#service?.output}`);
  }
}

function isOurs(pid: number, directory: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(`${directory}/`);
  } catch {
    return false;
  }
}
