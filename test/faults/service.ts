import { spawn, type ChildProcess } from "node:child_process";

export interface ServiceSpec {
  command: string;
  args: string[];
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Whether a signal goes to it and to all that it started. */
  isGroup: boolean;
}

const KEPT_LINES = 60;
const RESTART_MS = 300;

/**
 * A program that is meant to run, in a process group of its own. One that ends by itself is started again, as a service
 * manager does, and `onCrash` is told.
 */
export class Service {
  readonly #spec: ServiceSpec;
  readonly #onCrash: (output: string) => void;
  readonly #lines: string[] = [];
  #child: ChildProcess | undefined;
  #isWanted = false;

  constructor(spec: ServiceSpec, onCrash: (output: string) => void) {
    this.#spec = spec;
    this.#onCrash = onCrash;
  }

  get isWanted(): boolean {
    return this.#isWanted;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** The last lines of what it has said since its start. */
  get output(): string {
    return this.#lines.join("\n");
  }

  start(): void {
    this.#isWanted = true;
    this.#lines.length = 0;
    const { command, args, env, cwd } = this.#spec;
    const child = spawn(command, args, {
      env: env ?? process.env,
      ...(cwd !== undefined && { cwd }),
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    this.#child = child;
    child.stdin.on("error", () => undefined);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#lines.push(...text.split("\n").filter((line) => line.trim()));
        this.#lines.splice(0, Math.max(0, this.#lines.length - KEPT_LINES));
      });
    }
    child.on("exit", (code, signal) => {
      if (this.#child !== child || !this.#isWanted) return;
      this.#lines.push(`(ended: ${signal ?? `code ${code}`})`);
      this.#onCrash(this.output);
      setTimeout(() => this.#isWanted && this.#child === child && this.start(), RESTART_MS);
    });
  }

  /** Ends it without a chance to clean up. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Asks it to end. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    this.#isWanted = false;
    const child = this.#child;
    if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((done) => child.once("exit", () => done()));
    try {
      // Only what dies at once dies with its group: asked to end, it does that in order.
      process.kill(this.#spec.isGroup && signal === "SIGKILL" ? -child.pid : child.pid, signal);
    } catch {
      // It has ended meanwhile.
    }
    await ended;
  }
}
