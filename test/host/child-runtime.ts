import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import type { ImageTarget, StartSpec } from "../../src/contract/host-protocol.ts";
import { SIGNALS } from "../../src/contract/process.ts";
import { Readable } from "node:stream";
import {
  StartFailure,
  type Container,
  type ProcessOutput,
  type Runtime,
  type Spawned,
  type SpawnSpec,
} from "../../src/host/runtime.ts";

/** A runtime without containers: processes of this machine, by `child_process`. For tests of what lies above. */
export class ChildRuntime implements Runtime {
  readonly kind = "embedded";
  readonly egress = "gated";
  readonly defaultImage = "host";
  readonly capabilities = {
    cpu_limit: false,
    memory_limit: false,
    gpu: false,
    raw_tcp: false,
    exec_user: false,
    pty: false,
    images: ["host"],
  };
  readonly resources = { cpu: 2, memory: 4096, diskDir: "/tmp" };
  readonly started: ChildContainer[] = [];
  /** What `recover` finds. */
  left: ChildContainer[] = [];
  startDelayMs = 0;
  /** How many of the next attempts to remove a container fail. */
  stopFailures = 0;

  async start(spec: StartSpec): Promise<Container> {
    if (this.startDelayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.startDelayMs));
    if (spec.image === "missing") throw new StartFailure("There is no image missing.");
    const container = new ChildContainer(spec, this);
    this.started.push(container);
    return container;
  }

  async recover(): Promise<Container[]> {
    return this.left;
  }

  /** The snapshots here, and where they were stored. */
  readonly images = new Map<string, ImageTarget | undefined>();
  /** Every attempt, also those that fail. */
  readonly kept: string[] = [];
  readonly pushed: { imageId: string; target: ImageTarget }[] = [];
  keepDelayMs = 0;
  pushDelayMs = 0;
  /** What goes wrong, until it is taken away again. */
  keepFailure: Error | undefined;
  pushFailure: Error | undefined;
  listFailure: Error | undefined;
  listDelay: Promise<void> | undefined;
  findFailure: Error | undefined;
  readonly stuckImages = new Set<string>();

  async hasImage(imageId: string): Promise<boolean> {
    if (this.findFailure) throw this.findFailure;
    return this.images.has(imageId);
  }

  async listImages(): Promise<string[]> {
    await this.listDelay;
    if (this.listFailure) throw this.listFailure;
    return [...this.images.keys()];
  }

  async keepImage(imageId: string): Promise<{ size: number }> {
    this.kept.push(imageId);
    await new Promise((wake) => setTimeout(wake, this.keepDelayMs));
    if (this.keepFailure) throw this.keepFailure;
    this.images.set(imageId, undefined);
    return { size: 42 };
  }

  references = ["debian:bookworm-slim"];

  async listReferences(): Promise<string[]> {
    return this.references;
  }

  /** Why it cannot give devices. */
  gpuRefusal: string | undefined;

  async whyNoGpus(): Promise<string | undefined> {
    return this.gpuRefusal;
  }

  async pushImage(imageId: string, target: ImageTarget): Promise<{ uploadedBytes: number }> {
    this.pushed.push({ imageId, target });
    await new Promise((wake) => setTimeout(wake, this.pushDelayMs));
    if (this.pushFailure) throw this.pushFailure;
    this.images.set(imageId, target);
    return { uploadedBytes: 1 };
  }

  async removeImage(imageId: string): Promise<void> {
    if (this.stuckImages.has(imageId)) throw new Error("the image is stuck");
    this.images.delete(imageId);
  }
}

export class ChildContainer implements Container {
  readonly sandboxId: string;
  readonly generation: number;
  readonly deadlineAt: number;
  readonly endImage: string | undefined;
  readonly publishedPorts = {};
  readonly gpus: readonly string[];
  readonly main = undefined;
  readonly #exit = Promise.withResolvers<{ returncode: number; oom: boolean }>();
  readonly exited = this.#exit.promise;
  readonly #spawned = new Set<Spawned>();
  isStopped = false;
  /** Without one, as in an image that holds nothing, there is the launcher's busybox. */
  hasShell = true;
  /** Runs in the place of /bin/sh. */
  shell: string | undefined;

  readonly #runtime: ChildRuntime | undefined;

  constructor(
    spec: Pick<StartSpec, "sandbox_id" | "generation" | "lifetime_ms" | "end_image" | "gpus">,
    runtime?: ChildRuntime,
  ) {
    this.#runtime = runtime;
    this.sandboxId = spec.sandbox_id;
    this.generation = spec.generation;
    this.deadlineAt = Date.now() + spec.lifetime_ms;
    this.endImage = spec.end_image;
    this.gpus = spec.gpus ?? [];
  }

  /** The entrypoint ends by itself. */
  end(returncode: number): void {
    this.#exit.resolve({ returncode, oom: false });
    for (const spawned of this.#spawned) void spawned.kill("SIGKILL");
  }

  async stop(): Promise<void> {
    if (this.#runtime && this.#runtime.stopFailures > 0) {
      this.#runtime.stopFailures--;
      throw new Error("it does not go away");
    }
    this.isStopped = true;
    this.end(137);
  }

  async adopt(): Promise<Spawned | undefined> {
    return undefined;
  }

  dropUnclaimed(): void {}

  oomKills(): number {
    return 0;
  }

  async spawn({ command, env, workdir, stdout, stderr }: SpawnSpec): Promise<Spawned> {
    if (this.isStopped) throw new Error("stopped");
    const own = command[0] === "/bin/sh" && this.shell !== undefined ? [this.shell, ...command.slice(1)] : command;
    const [program, ...args] = this.hasShell ? own : withoutShell(own);
    const child = spawn(program!, args, { env: { PATH: process.env["PATH"], ...env }, cwd: workdir, detached: true });
    const exited = Promise.race([
      once(child, "exit").then(([code, signal]) => code ?? 128 + SIGNALS[signal as keyof typeof SIGNALS]),
      once(child, "error").then(() => 127),
    ]).catch(() => 127);
    const spawned: Spawned = {
      stdin: child.stdin,
      stdout: outputOf(child.stdout, stdout),
      stderr: outputOf(child.stderr, stderr),
      exited,
      release: () => {},
      kill: async (signal) => {
        try {
          process.kill(-child.pid!, signal);
        } catch {
          // It has ended.
        }
      },
    };
    this.#spawned.add(spawned);
    void exited.then(() => this.#spawned.delete(spawned));
    return spawned;
  }

  async dial(port: number) {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    await once(socket, "connect");
    return socket;
  }

  async snapshot(imageId: string): Promise<{ size: number }> {
    if (this.isStopped) throw new Error("stopped");
    return this.#runtime?.keepImage(imageId) ?? { size: 42 };
  }
}

function outputOf(stream: Readable, mode: "pipe" | "ignore" | undefined): ProcessOutput {
  if (mode !== "ignore") return { stream: () => stream };
  stream.resume();
  return { stream: () => Readable.from([]) };
}

function withoutShell(command: string[]): string[] {
  const [program, ...args] = command.map((word) => (word === "/.sandbar/busybox" ? "/usr/bin/busybox" : word));
  return program === "/bin/sh" ? ["/nothing/here"] : [program!, ...args];
}
