import { randomUUID } from "node:crypto";
import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Stand-ins of NVIDIA's tools in a folder for the PATH: an `nvidia-smi` that lists devices, and the hook whose presence tells an
 * engine at its start that it can give them. It gives nothing: a container sees its devices by the variable alone.
 */
export class StandInGpus {
  readonly directory = mkdtempSync("/tmp/sandbar-gpus-");
  readonly uuids: string[];
  readonly lines: string[];

  constructor(count: number, name = "NVIDIA L4") {
    this.uuids = Array.from({ length: count }, () => `GPU-${randomUUID()}`);
    this.lines = this.uuids.map((uuid, index) => `${index}, ${uuid}, ${name}, 23034`);
    this.#write("nvidia-container-runtime-hook", "cat >/dev/null");
    this.say(this.lines);
  }

  /** Has `nvidia-smi` say something else. */
  say(lines: string[], code = 0): void {
    this.#write("nvidia-smi", `cat <<'END'\n${lines.join("\n")}\nEND\nexit ${code}`);
  }

  /** Has it neither answer nor end: what holds its output outlives it. */
  hang(seconds: number): void {
    this.#write("nvidia-smi", `sleep ${seconds} & wait`);
  }

  /** For who is to see them. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, PATH: this.path };
  }

  get path(): string {
    return `${this.directory}:${process.env["PATH"]}`;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  #write(name: string, script: string): void {
    const path = join(this.directory, name);
    writeFileSync(`${path}.new`, `#!/bin/sh\n${script}\n`);
    chmodSync(`${path}.new`, 0o755);
    renameSync(`${path}.new`, path);
  }
}
