import { join, resolve } from "node:path";
import { newId } from "../../src/contract/ids.ts";
import { deriveHostKey, formatJoinToken } from "../../src/contract/host-token.ts";
import { Service } from "./service.ts";

const CLI = resolve(import.meta.dirname, "../../src/host/cli.ts");

export interface HostOptions {
  runtime: "docker" | "embedded";
  dataDir: string;
  port: number;
  controlPlaneUrl: string;
  signingSecret: string;
  /** The engine's socket. */
  socketPath?: string | undefined;
  onCrash: (output: string) => void;
}

/** A host daemon that its containers outlive. */
export class Host {
  readonly hostId: string;
  readonly #service: Service;

  private constructor(hostId: string, service: Service) {
    this.hostId = hostId;
    this.#service = service;
  }

  static async prepare(options: HostOptions): Promise<Host> {
    const { runtime, dataDir, port, controlPlaneUrl, signingSecret, socketPath } = options;
    const hostId = newId("host");
    const token = formatJoinToken(hostId, await deriveHostKey(signingSecret, hostId));
    const args = [CLI, "host", "--control-plane", controlPlaneUrl, "--listen", `127.0.0.1:${port}`];
    args.push("--data-dir", dataDir, "--runtime", runtime);
    const docker = socketPath === undefined ? {} : { DOCKER_HOST: `unix://${socketPath}` };
    const env = { ...process.env, ...docker, SANDBAR_TOKEN: token };
    const spec = { command: process.execPath, args, env, isGroup: false };
    return new Host(hostId, new Service(spec, options.onCrash));
  }

  get output(): string {
    return this.#service.output;
  }

  get isWanted(): boolean {
    return this.#service.isWanted;
  }

  start(): void {
    this.#service.start();
  }

  kill(): Promise<void> {
    return this.#service.kill();
  }

  stop(): Promise<void> {
    return this.#service.stop();
  }
}

export const dataDirOf = (directory: string) => join(directory, "host");
