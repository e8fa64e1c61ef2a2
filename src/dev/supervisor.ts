import { spawn, type ChildProcess } from "node:child_process";

export interface Service {
  name: string;
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  /** Called with every line of its output. */
  onLine?: (line: string) => void;
  /** How long it may take to end after SIGTERM, in milliseconds. */
  stopMs: number;
}

const RESTART_MS = 500;
/** A service that ended this often within a minute is not started again. */
const MAX_RESTARTS_A_MINUTE = 5;
const KEPT_LINES = 40;

/**
 * Runs one child in a process group of its own and starts it again when it dies. The child's stdin is a
 * pipe: it sees its end when this process is gone, however that happened.
 */
export class SupervisedProcess {
  readonly #service: Service;
  readonly #onGivenUp: (message: string) => void;
  readonly #restarts: number[] = [];
  readonly #lines: string[] = [];
  #child: ChildProcess | undefined;
  #isStopping = false;

  constructor(service: Service, onGivenUp: (message: string) => void) {
    this.#service = service;
    this.#onGivenUp = onGivenUp;
  }

  /** The last lines of its output. */
  get output(): string {
    return this.#lines.join("\n");
  }

  start(): void {
    const { command, args, env } = this.#service;
    const child = spawn(command, args, { env, stdio: ["pipe", "pipe", "pipe"], detached: true });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) this.#read(stream);
    child.stdin.on("error", () => undefined);
    child.on("error", (error) => this.#onGivenUp(`${this.#service.name} cannot be run: ${error.message}`));
    child.on("exit", (code, signal) => this.#onExit(child, signal ?? `code ${code}`));
  }

  #read(stream: NodeJS.ReadableStream): void {
    let rest = "";
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        this.#lines.push(line);
        if (this.#lines.length > KEPT_LINES) this.#lines.shift();
        this.#service.onLine?.(line);
      }
    });
  }

  #onExit(child: ChildProcess, how: string): void {
    killGroup(child, "SIGKILL");
    if (this.#isStopping) return;
    const now = Date.now();
    this.#restarts.push(now);
    if (this.#restarts.filter((at) => at > now - 60_000).length > MAX_RESTARTS_A_MINUTE) {
      this.#onGivenUp(`${this.#service.name} ended again and again (${how}):\n${this.output}`);
      return;
    }
    console.error(`${this.#service.name} ended (${how}); it is started again.`);
    setTimeout(() => !this.#isStopping && this.start(), RESTART_MS);
  }

  /** Ends it at once, to be started again. */
  restart(): void {
    if (this.#child) killGroup(this.#child, "SIGKILL");
  }

  /** Ends it and everything it started. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGTERM");
    const timer = setTimeout(() => killGroup(child, "SIGKILL"), this.#service.stopMs);
    await ended;
    clearTimeout(timer);
  }
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    process.kill(-child.pid!, signal);
  } catch {
    // Nothing is left of it.
  }
}
