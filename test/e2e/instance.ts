import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { removeContainersOf } from "../../src/dev/docker-cli.ts";
import { prepareContainers } from "../containers/prepare.ts";

export const START = resolve(import.meta.dirname, "../../src/dev/start.ts");
export const DEV_KEY = "my-own-dev-key-123";

/** The runtimes of a host, and containers beside their objects. */
export type RuntimeName = "docker" | "embedded" | "cloudflare";

/** A whole Sandbar, started as `npm start` does, on a port and a state directory of its own. */
export class Instance {
  readonly port: number;
  readonly runtime: RuntimeName;
  readonly stateDirectory: string;
  /** Further variables of its environment, from the next start on. */
  environment: Record<string, string> = {};
  #child: ChildProcess | undefined;
  #output = "";

  constructor(port: number, runtime: RuntimeName, stateDirectory: string) {
    this.port = port;
    this.runtime = runtime;
    this.stateDirectory = stateDirectory;
  }

  static async start(runtime: RuntimeName, environment: Record<string, string> = {}): Promise<Instance> {
    const instance = new Instance(await freePort(), runtime, mkdtempSync(join(tmpdir(), "sandbar-e2e-")));
    instance.environment = environment;
    await instance.start();
    return instance;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get output(): string {
    return this.#output;
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  /** Starts it; again on the same state after a `stop` or `kill`. Resolves with the milliseconds it took. */
  async start(): Promise<number> {
    const startedAt = Date.now();
    this.#output = "";
    const child = spawn(process.execPath, [START], {
      env: {
        ...process.env,
        PORT: String(this.port),
        DEV_KEY,
        SANDBAR_STATE: this.stateDirectory,
        ...(await environmentOf(this.runtime)),
        ...this.environment,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    await new Promise<void>((ready, fail) => {
      const read = (chunk: Buffer) => {
        this.#output += chunk.toString();
        if (this.#output.includes("Sandbar is ready.")) ready();
      };
      child.stdout.on("data", read);
      child.stderr.on("data", read);
      child.once("exit", (code) => fail(new Error(`npm start ended with ${code}:\n${this.#output}`)));
      setTimeout(() => fail(new Error(`npm start was not ready in time:\n${this.#output}`)), 600_000).unref();
    });
    return Date.now() - startedAt;
  }

  /** Ends it as a person does. */
  async interrupt(): Promise<void> {
    await this.#end("SIGINT");
  }

  /** Ends it without a chance to clean up. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((done) => child.once("exit", () => done()));
    child.kill(signal);
    await ended;
  }

  /** Ends it and removes what it kept. */
  async remove(): Promise<void> {
    await this.interrupt();
    // The local platform leaves containers behind when it is ended so; the real one does not.
    if (this.runtime === "cloudflare") await removeContainersOf(this.stateDirectory);
    rmSync(this.stateDirectory, { recursive: true, force: true });
  }

  /** Waits until the Worker answers; resolves with the milliseconds it took. */
  async untilAnswers(limitMs = 15_000): Promise<number> {
    for (const startedAt = Date.now(); Date.now() < startedAt + limitMs;) {
      await sleep(50);
      const health = await fetch(`${this.url}/health`, { signal: AbortSignal.timeout(2000) }).catch(() => undefined);
      if (health?.ok) return Date.now() - startedAt;
    }
    throw new Error(`The Worker does not answer:\n${this.#output}`);
  }

  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${DEV_KEY}`);
    if (typeof init.body === "string" && !headers.has("content-type")) headers.set("content-type", "application/json");
    return fetch(`${this.url}/v1${path}`, { ...init, headers });
  }

  /** A JSON call that must succeed. */
  async call<T = Record<string, unknown>>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.fetch(path, { method, ...(body !== undefined && { body: JSON.stringify(body) }) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} → ${response.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  async create(body: object = {}): Promise<string> {
    return (await this.call<{ sandbox_id: string }>("POST", "/sandboxes", body)).sandbox_id;
  }

  sandbox(sandboxId: string): Promise<SandboxView> {
    return this.call("GET", `/sandboxes/${sandboxId}`);
  }

  exec(sandboxId: string, command: string[], more: object = {}, wait = 20): Promise<ProcessView> {
    return this.call("POST", `/sandboxes/${sandboxId}/exec?wait=${wait}`, { command, ...more });
  }

  /** Waits until the sandbox is in one of the states. */
  async until(sandboxId: string, states: string[], timeoutMs = 20_000): Promise<SandboxView> {
    const giveUpAt = Date.now() + timeoutMs;
    for (;;) {
      const sandbox = await this.sandbox(sandboxId).catch(() => undefined);
      if (sandbox && states.includes(sandbox.state)) return sandbox;
      if (Date.now() > giveUpAt)
        throw new Error(`never ${states.join(" or ")}: ${JSON.stringify(sandbox)}\n${this.#output}`);
      await sleep(100);
    }
  }
}

async function environmentOf(runtime: RuntimeName): Promise<Record<string, string>> {
  if (runtime !== "cloudflare") return { SANDBAR_RUNTIME: runtime };
  const containers = await prepareContainers();
  if ("skipReason" in containers) throw new Error(containers.skipReason);
  return { ...containers.env, SANDBAR_RUNTIME: "embedded", SANDBAR_CONTAINERS: "1", SANDBAR_BACKEND: "cloudflare" };
}

export interface SandboxView {
  sandbox_id: string;
  state: string;
  finish_reason?: string;
  returncode?: number;
  error?: string;
  image: string;
}

export interface ProcessView {
  process_id: string;
  returncode: number | null;
  timed_out: boolean;
  command: string[];
  finish_reason?: string;
  stdout: string;
  stderr: string;
}

export const sleep = (ms: number) => new Promise<void>((wake) => setTimeout(wake, ms));

/** Below those that the system and the engine hand out by themselves: nobody else takes it meanwhile. */
const [FIRST_PORT, LAST_PORT] = [20_000, 32_000];

export function freePort(): Promise<number> {
  const port = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT));
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(freePort()));
    server.listen(port, "127.0.0.1", () => server.close(() => done(port)));
  });
}
