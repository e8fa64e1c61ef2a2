import type { Backend, ByteRange, FileContent, StartOutcome, WriteOptions } from "../../src/backends/backend.ts";
import { EndMarkerCheck } from "../../src/contract/end-marker.ts";
import { ApiError } from "../../src/contract/errors.ts";
import type {
  ContainerExit,
  ContainerStatus,
  ExecSpec,
  ProcessStatus,
  StartSpec,
} from "../../src/contract/host-protocol.ts";
import { MAX_INLINE_OUTPUT_BYTES, SIGNALS, type OutputStream, type SignalName } from "../../src/contract/process.ts";
import { runProgram, type FakeProgram } from "./fake-programs.ts";

export interface FakeFile {
  bytes: Uint8Array;
  mode: string;
}

interface FakeProcess {
  spec: ExecSpec;
  program: FakeProgram;
  returncode: number | null;
  timedOut: boolean;
  exitedAt: number | undefined;
  end(returncode: number): void;
}

/** A container in memory: as strict as a real one about what is there and what is not. */
export interface FakeContainer {
  spec: StartSpec;
  files: Map<string, FakeFile>;
  processes: Map<string, FakeProcess>;
  exit: ContainerExit | undefined;
  lastActiveAt: number;
}

/** A host in memory. It outlives the objects that speak to it, as a real one does. */
export class FakeHost {
  readonly containers = new Map<string, FakeContainer>();
  readonly images = new Map<string, Map<string, FakeFile>>();
  /** How many times each sandbox was started anew. */
  readonly launches = new Map<string, number>();
  /** The sandboxes that were stopped: a start that comes after it is refused. */
  readonly stopped = new Set<string>();
  /** Set to make the host not answer. */
  isDown = false;
  /** Set to hold every start under way until it is false again. */
  holdsStarts = false;
  /** Starts that are held now. */
  heldStarts = 0;

  open(sandboxId: string): Backend {
    return new FakeBackend(this, sandboxId);
  }

  /** Ends the container as its entrypoint would. */
  exit(sandboxId: string, exit: Partial<ContainerExit> = {}): void {
    const container = this.containers.get(sandboxId);
    if (!container) return;
    container.exit = { returncode: 0, oom: false, deadline: false, ...exit };
    for (const process of container.processes.values()) process.end(137);
  }
}

class FakeBackend implements Backend {
  readonly #host: FakeHost;
  readonly #sandboxId: string;

  constructor(host: FakeHost, sandboxId: string) {
    this.#host = host;
    this.#sandboxId = sandboxId;
  }

  async start(spec: StartSpec): Promise<StartOutcome> {
    this.#answer();
    this.#host.heldStarts += 1;
    await until(() => !this.#host.holdsStarts);
    this.#host.heldStarts -= 1;
    if (this.#host.stopped.has(this.#sandboxId)) throw new ApiError("sandbox_ended");
    const existing = this.#host.containers.get(this.#sandboxId);
    if (existing?.spec.generation === spec.generation)
      return { kind: "adopted", publishedPorts: publish(existing.spec) };
    let files = new Map<string, FakeFile>([
      ["/etc/os-release", { bytes: new TextEncoder().encode("ID=fake\n"), mode: "644" }],
    ]);
    if (spec.image.startsWith("im-")) {
      const image = this.#host.images.get(spec.image);
      if (!image) return { kind: "failed", error: `There is no image ${spec.image} on this host.` };
      files = new Map(image);
    } else if (spec.image.includes("missing")) {
      return { kind: "failed", error: `The image ${spec.image} cannot be pulled.` };
    }
    if (spec.entrypoint?.[0]?.includes("nope"))
      return { kind: "failed", error: `${spec.entrypoint[0]}: no such program.` };
    this.#host.containers.set(this.#sandboxId, {
      spec,
      files,
      processes: new Map(),
      exit: undefined,
      lastActiveAt: Date.now(),
    });
    this.#host.launches.set(this.#sandboxId, (this.#host.launches.get(this.#sandboxId) ?? 0) + 1);
    return { kind: "launched", publishedPorts: publish(spec) };
  }

  async inspect(): Promise<ContainerStatus> {
    this.#answer();
    const container = this.#host.containers.get(this.#sandboxId);
    if (!container) return { kind: "gone" };
    const { generation } = container.spec;
    if (container.exit) return { kind: "exited", generation, exit: container.exit };
    const busy = [...container.processes.values()].some((process) => process.returncode === null);
    return { kind: "running", generation, busy, last_active_at: busy ? Date.now() : container.lastActiveAt };
  }

  async stop(): Promise<void> {
    this.#answer();
    this.#host.stopped.add(this.#sandboxId);
    this.#host.exit(this.#sandboxId, { returncode: 137 });
    this.#host.containers.delete(this.#sandboxId);
  }

  async exec(spec: ExecSpec, waitMs = 0): Promise<ProcessStatus> {
    const container = this.#running();
    let process = container.processes.get(spec.process_id);
    if (!process) {
      process = this.#launch(container, spec);
      container.processes.set(spec.process_id, process);
    }
    return this.#status(process, waitMs);
  }

  #launch(container: FakeContainer, spec: ExecSpec): FakeProcess {
    const process: FakeProcess = {
      spec,
      program: runProgram(spec, container),
      returncode: null,
      timedOut: false,
      exitedAt: undefined,
      end(returncode) {
        if (this.returncode !== null) return;
        this.returncode = returncode;
        this.exitedAt = container.lastActiveAt = Date.now();
      },
    };
    if (spec.timeout_ms !== undefined) {
      setTimeout(() => {
        if (process.returncode === null) process.timedOut = true;
        process.end(137);
      }, spec.timeout_ms);
    }
    void process.program.returncode.then((returncode) => process.end(returncode));
    return process;
  }

  async process(processId: string, waitMs = 0): Promise<ProcessStatus> {
    return this.#status(this.#find(processId), waitMs);
  }

  async processes(): Promise<ProcessStatus[]> {
    return Promise.all([...this.#running().processes.values()].map((process) => this.#status(process, 0)));
  }

  async signal(processId: string, signal: SignalName): Promise<void> {
    this.#find(processId).end(128 + SIGNALS[signal]);
  }

  async output(processId: string, stream: OutputStream, offset: number, follow: boolean) {
    const process = this.#find(processId);
    return new ReadableStream<Uint8Array>({
      async start(controller) {
        if (follow) await until(() => process.returncode !== null);
        controller.enqueue(process.program[stream].slice(offset));
        controller.close();
      },
    });
  }

  async readFile(path: string, range?: ByteRange): Promise<FileContent> {
    const { files } = this.#running();
    if (isDirectory(files, path)) throw new ApiError("is_a_directory");
    const file = files.get(path);
    if (!file) throw new ApiError(hasFileAbove(files, path) ? "not_a_directory" : "file_not_found");
    const size = file.bytes.length;
    if (!range) return { body: streamOf(file.bytes), size, range: undefined };
    const first = "suffix" in range ? Math.max(0, size - range.suffix) : range.first;
    const last = "suffix" in range ? size - 1 : Math.min(range.last ?? size - 1, size - 1);
    if (first >= size || last < first) throw new ApiError("range_not_satisfiable");
    return { body: streamOf(file.bytes.slice(first, last + 1)), size, range: { first, last } };
  }

  async writeFile(path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<void> {
    const { files } = this.#running();
    if (isDirectory(files, path) || path.endsWith("/")) throw new ApiError("is_a_directory");
    if (hasFileAbove(files, path)) throw new ApiError("not_a_directory");
    const received = new Uint8Array(await new Response(body).arrayBuffer());
    const bytes = options.endMarker === undefined ? received : withoutMarker(received, options.endMarker);
    if (options.size !== undefined && options.size !== bytes.length) {
      throw new ApiError("invalid_request", { detail: "The body broke off." });
    }
    files.set(path, { bytes, mode: options.mode ?? files.get(path)?.mode ?? "644" });
  }

  async snapshot(imageId: string): Promise<{ size: number }> {
    const { files } = this.#running();
    this.#host.images.set(imageId, new Map(files));
    return { size: [...files.values()].reduce((sum, file) => sum + file.bytes.length, 0) };
  }

  async probePort(port: number): Promise<boolean> {
    return this.#listens(port);
  }

  async connect(port: number, request: Request): Promise<Response> {
    if (!this.#listens(port)) throw new ApiError("port_unreachable");
    return new Response(`${request.method} ${new URL(request.url).pathname}`, {
      headers: { "x-fake-port": String(port) },
    });
  }

  /** A fake server listens where a process `serve PORT` runs. */
  #listens(port: number): boolean {
    return [...this.#running().processes.values()].some(
      ({ spec, returncode }) => returncode === null && spec.command[0] === "serve" && spec.command[1] === String(port),
    );
  }

  #answer(): void {
    if (this.#host.isDown)
      throw new ApiError("backend_unavailable", { detail: "The fake host is down.", retryAfter: 1 });
  }

  #running(): FakeContainer {
    this.#answer();
    const container = this.#host.containers.get(this.#sandboxId);
    if (!container || container.exit) throw new ApiError("sandbox_ended");
    container.lastActiveAt = Date.now();
    return container;
  }

  #find(processId: string): FakeProcess {
    const process = this.#running().processes.get(processId);
    if (!process) throw new ApiError("process_not_found");
    return process;
  }

  async #status(process: FakeProcess, waitMs: number): Promise<ProcessStatus> {
    if (waitMs > 0) await until(() => process.returncode !== null, waitMs);
    const { stdout, stderr } = process.program;
    return {
      process_id: process.spec.process_id,
      returncode: process.returncode,
      timed_out: process.timedOut,
      ...(process.exitedAt !== undefined && { exited_at: process.exitedAt }),
      stdout_bytes: stdout.length,
      stderr_bytes: stderr.length,
      ...(waitMs > 0 && {
        output: {
          stdout: toBase64(stdout.slice(0, MAX_INLINE_OUTPUT_BYTES)),
          stderr: toBase64(stderr.slice(0, MAX_INLINE_OUTPUT_BYTES)),
          stdout_truncated: stdout.length > MAX_INLINE_OUTPUT_BYTES,
          stderr_truncated: stderr.length > MAX_INLINE_OUTPUT_BYTES,
        },
      }),
    };
  }
}

/** Looks every few milliseconds: workerd does not let one object settle the promise of another. */
async function until(condition: () => boolean, timeoutMs = Infinity): Promise<void> {
  const giveUpAt = Date.now() + timeoutMs;
  while (!condition() && Date.now() < giveUpAt) await new Promise((wake) => setTimeout(wake, 2));
}

function withoutMarker(received: Uint8Array, endMarker: string): Uint8Array {
  const check = new EndMarkerCheck(endMarker);
  const [bytes] = check.push(received);
  if (!check.isWhole) throw new ApiError("invalid_request", { detail: "The body broke off." });
  return bytes ?? new Uint8Array(0);
}

function publish(spec: StartSpec): Record<string, number> {
  return Object.fromEntries(spec.raw_ports.map((port) => [String(port), 40_000 + (port % 20_000)]));
}

function isDirectory(files: Map<string, FakeFile>, path: string): boolean {
  const prefix = path.endsWith("/") ? path : `${path}/`;
  return ["/", "/tmp", "/etc"].includes(path) || [...files.keys()].some((name) => name.startsWith(prefix));
}

function hasFileAbove(files: Map<string, FakeFile>, path: string): boolean {
  const parts = path.split("/");
  return parts.some((_, index) => index > 0 && index < parts.length && files.has(parts.slice(0, index).join("/")));
}

function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new Response(bytes as Uint8Array<ArrayBuffer>).body ?? new ReadableStream({ start: (c) => c.close() });
}

function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 32_768) binary += String.fromCharCode(...bytes.subarray(at, at + 32_768));
  return btoa(binary);
}
