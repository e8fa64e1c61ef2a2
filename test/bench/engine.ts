import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";

const DOCKER = existsSync("/usr/bin/docker") ? "/usr/bin/docker" : "docker";
const IMAGE = "debian:bookworm-slim";

/** The engine's own command line, on a container like those that sandboxes are. */
export class EngineCli {
  readonly #container: string;

  private constructor(container: string) {
    this.#container = container;
  }

  /** Undefined where no engine answers: then there is nothing to compare with. */
  static start(): EngineCli | undefined {
    try {
      const hardening = ["--security-opt", "no-new-privileges", "--init"];
      const id = execFileSync(DOCKER, ["run", "-d", ...hardening, IMAGE, "sleep", "infinity"], { encoding: "utf8" });
      return new EngineCli(id.trim());
    } catch {
      return undefined;
    }
  }

  /** `docker exec` from its start to its end. */
  exec(command: string[]): Promise<void> {
    return succeeds(["exec", this.#container, ...command]);
  }

  /** `docker run` from its start to its end. */
  run(command: string[]): Promise<void> {
    return succeeds(["run", "--rm", IMAGE, ...command]);
  }

  /** `docker cp` of a file or a directory of this machine. */
  copyIn(from: string, to: string): Promise<void> {
    return succeeds(["cp", from, `${this.#container}:${to}`]);
  }

  copyOut(from: string, to: string): Promise<void> {
    return succeeds(["cp", `${this.#container}:${from}`, to]);
  }

  /** Milliseconds to the first byte of `docker exec`. */
  async firstByte(command: string[]): Promise<number> {
    const begin = performance.now();
    const child = spawn(DOCKER, ["exec", this.#container, ...command], { stdio: ["ignore", "pipe", "ignore"] });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const took = performance.now() - begin;
    child.stdout.resume();
    await new Promise((resolve) => child.once("exit", resolve));
    return took;
  }

  /** Seconds that `docker exec … | cat` takes. */
  async piped(command: string): Promise<number> {
    const begin = performance.now();
    const script = `${DOCKER} exec ${this.#container} ${command} | cat >/dev/null`;
    const child = spawn("sh", ["-c", script], { stdio: "ignore" });
    await new Promise((resolve) => child.once("exit", resolve));
    return (performance.now() - begin) / 1000;
  }

  /** Round trips of a byte through `docker exec -i … cat`, in milliseconds. */
  async echoes(count: number): Promise<number[]> {
    const child = spawn(DOCKER, ["exec", "-i", this.#container, "cat"], { stdio: ["pipe", "pipe", "ignore"] });
    const times: number[] = [];
    for (let index = -5; index < count; index++) {
      const begin = performance.now();
      child.stdin.write("x");
      await new Promise((resolve) => child.stdout.once("data", resolve));
      if (index >= 0) times.push(performance.now() - begin);
    }
    child.stdin.end();
    await new Promise((resolve) => child.once("exit", resolve));
    return times;
  }

  remove(): void {
    execFileSync(DOCKER, ["rm", "-f", this.#container], { stdio: "ignore" });
  }
}

async function succeeds(args: string[]): Promise<void> {
  const child = spawn(DOCKER, args, { stdio: "ignore" });
  const code = await new Promise((resolve) => child.once("exit", resolve));
  if (code !== 0) throw new Error(`docker ${args[0]} ended with ${String(code)}`);
}
