import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatJoinToken } from "../../src/contract/host-token.ts";
import { openRuntimeDir } from "../../src/host/runtime-dir.ts";
import { HostCaller } from "./signed-host.ts";

const CLI = resolve(import.meta.dirname, "../../src/host/cli.ts");

export interface DaemonProcessOptions {
  controlPlaneUrl?: string;
  env?: NodeJS.ProcessEnv;
}

/** A daemon as a person runs it: in a process of its own, that can be killed. */
export class DaemonProcess {
  readonly host: HostCaller;
  readonly dataDir = mkdtempSync("/tmp/sb-restart-");
  readonly #runtime: string;
  readonly #controlPlaneUrl: string;
  readonly #env: NodeJS.ProcessEnv;
  /** What it has said on stderr. */
  complaints = "";
  #daemon: ChildProcess | undefined;

  private constructor(host: HostCaller, runtime: "docker" | "embedded", options: DaemonProcessOptions) {
    const { controlPlaneUrl = "http://127.0.0.1:9", env = process.env } = options;
    this.host = host;
    this.#env = env;
    this.#runtime = runtime;
    this.#controlPlaneUrl = controlPlaneUrl;
  }

  static async start(runtime: "docker" | "embedded", options: DaemonProcessOptions = {}): Promise<DaemonProcess> {
    const daemon = new DaemonProcess(await HostCaller.create(), runtime, options);
    await daemon.start();
    return daemon;
  }

  /** At the port that it had before. */
  async start(): Promise<void> {
    const { host, dataDir } = this;
    const args = ["host", "--control-plane", this.#controlPlaneUrl, "--listen", `127.0.0.1:${host.port}`];
    this.#daemon = spawn(process.execPath, [CLI, ...args, "--runtime", this.#runtime, "--data-dir", dataDir], {
      env: { ...this.#env, SANDBAR_TOKEN: formatJoinToken(host.hostId, host.key) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#daemon.stderr!.on("data", (text: Buffer) => {
      this.complaints += text.toString();
      process.stderr.write(text);
    });
    let output = "";
    for await (const chunk of this.#daemon.stdout!) {
      output += String(chunk);
      const found = /on http:\/\/127\.0\.0\.1:(\d+):/.exec(output)?.[1];
      if (found) return void (host.port = Number(found));
    }
    throw new Error(`The daemon ended: ${output}`);
  }

  async kill(): Promise<void> {
    const exit = once(this.#daemon!, "exit");
    this.#daemon!.kill("SIGKILL");
    await exit;
  }

  /** kill -9, a moment in which nobody is there, and a new one. */
  async restart(pauseMs = 300): Promise<void> {
    await this.kill();
    await sleep(pauseMs);
    await this.start();
  }

  /** Where the FIFOs of its sandboxes lie. */
  runtimeDir(): Promise<string> {
    return openRuntimeDir(this.dataDir);
  }

  async remove(): Promise<void> {
    await this.kill();
    for (const dir of [await this.runtimeDir(), this.dataDir]) rmSync(dir, { recursive: true, force: true });
  }
}
