import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Instance } from "./instance.ts";

const run = promisify(execFile);

/** Command lines with logins of their own: nobody else's are seen or changed. */
export class Clients {
  readonly directory = mkdtempSync(join(tmpdir(), "sandbar-clients-"));
  readonly #registry: string;

  constructor(instance: Instance) {
    this.#registry = `localhost:${instance.port}`;
    // Whatever signatures this machine asks for elsewhere.
    writeFileSync(`${this.directory}/policy.json`, '{"default":[{"type":"insecureAcceptAnything"}]}');
    mkdirSync(this.docker("main"));
  }

  /** The configuration of one who is logged in. */
  docker(who: string): string {
    return `${this.directory}/${who}`;
  }

  async dockerAs(who: string, ...args: string[]): Promise<string> {
    return (await run("docker", ["--config", this.docker(who), ...args])).stdout.trim();
  }

  login(who: string, key: string): Promise<string> {
    return this.dockerAs(who, "login", this.#registry, "-u", "x", "-p", key);
  }

  async skopeo(command: string, ...args: string[]): Promise<string> {
    return (await run("skopeo", ["--policy", `${this.directory}/policy.json`, command, ...args])).stdout.trim();
  }

  /** A reference as docker takes it. */
  at(name: string): string {
    return `${this.#registry}/${name}`;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
