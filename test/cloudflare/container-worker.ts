import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { removeContainersOf } from "../../src/dev/docker-cli.ts";
import { freePort } from "../e2e/instance.ts";

const ROOT = resolve(import.meta.dirname, "../..");
/** The first run builds the image. */
const READY_MS = 600_000;

/** `wrangler dev` with the Worker of `worker.ts`. */
export class ContainerWorker {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #state: string;

  private constructor(url: string, child: ChildProcess, state: string) {
    this.url = url;
    this.#child = child;
    this.#state = state;
  }

  static async start(env: Record<string, string>): Promise<ContainerWorker> {
    const port = await freePort();
    const state = mkdtempSync(join(tmpdir(), "sandbar-containers-"));
    const wrangler = join(ROOT, "node_modules/wrangler/bin/wrangler.js");
    const args = ["dev", "--config", join(import.meta.dirname, "wrangler.toml"), "--enable-containers"];
    args.push("--ip", "127.0.0.1", "--port", String(port), "--inspector-port", "0", "--persist-to", state);
    args.push("--show-interactive-dev-session=false", "--log-level", "warn");
    const child = spawn(process.execPath, [join(ROOT, "src/dev/tether.ts"), wrangler, ...args], {
      env: {
        ...process.env,
        ...env,
        WRANGLER_SEND_METRICS: "false",
        X_LOCAL_OBSERVABILITY: "false",
        CI: "1",
        NO_COLOR: "1",
      },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const worker = new ContainerWorker(`http://127.0.0.1:${port}`, child, state);
    await worker.#untilReady().catch(async (error: unknown) => {
      await worker.stop();
      throw error;
    });
    return worker;
  }

  async #untilReady(): Promise<void> {
    let output = "";
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    for (const giveUpAt = Date.now() + READY_MS; Date.now() < giveUpAt;) {
      if (this.#child.exitCode !== null) throw new Error(`wrangler dev ended:\n${output}`);
      const isReady = await fetch(this.url).then(
        ({ ok }) => ok,
        () => false,
      );
      if (isReady) return;
      await new Promise((wake) => setTimeout(wake, 200));
    }
    throw new Error(`wrangler dev was not ready in time:\n${output}`);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = new Promise<void>((done) => this.#child.once("exit", () => done()));
      this.#child.kill("SIGTERM");
      await ended;
    }
    await removeContainersOf(this.#state);
    rmSync(this.#state, { recursive: true, force: true });
  }
}
