import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";

/** Every address there is: whoever listens in there has it. */
export const ALL_ADDRESSES = [
  "ip link set lo up",
  "ip route add local default dev lo",
  "ip -6 route add local default dev lo",
];

/** A network namespace of a test's own, which begins with a loopback that is down. */
export class OwnNetwork {
  /** A descriptor of it, and its name. */
  readonly namespace: number;
  readonly path: string;
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
    this.path = `/proc/${holder.pid}/ns/net`;
    this.namespace = openSync(this.path, "r");
  }

  static async open(setUp: readonly string[] = []): Promise<OwnNetwork> {
    const script = [...setUp, "echo up", "exec sleep 600"].join(" && ");
    const holder = spawn("unshare", ["--net", "sh", "-c", script], { stdio: ["ignore", "pipe", "inherit"] });
    const [said] = (await Promise.race([once(holder.stdout, "data"), once(holder, "close")])) as unknown[];
    if (!Buffer.isBuffer(said)) throw new Error("There is no network of its own.");
    return new OwnNetwork(holder);
  }

  close(): void {
    this.#holder.kill("SIGKILL");
    closeSync(this.namespace);
  }
}
