import type {
  Backend,
  MovedDeadline,
  NetworkChange,
  StartOutcome,
  SnapshotOrder,
  SnapshotResult,
  StdinOptions,
} from "../../src/backends/backend.ts";
import type { AttachSpec } from "../../src/contract/attach.ts";
import type { ByteSource } from "../../src/contract/byte-source.ts";
import { ApiError, unsupported } from "../../src/contract/errors.ts";
import type { Cursor } from "../../src/contract/events.ts";
import type { ContainerStatus, ExecSpec, ProcessStatus, StartSpec } from "../../src/contract/host-protocol.ts";
import { MAIN_PROCESS_ID } from "../../src/contract/ids.ts";
import {
  OUTPUT_STREAMS,
  type OutputStream,
  type SignalName,
  type StdinState,
  type TerminalSize,
} from "../../src/contract/process.ts";
import type { VolumeCommit, VolumeReload } from "../../src/contract/volume-mount.ts";
import { FakeFileCalls } from "./fake-file-calls.ts";
import { FakeFiles } from "./fake-files.ts";
import { FakeContainer, publish, type DialBack, type FakeHost } from "./fake-host.ts";
import type { FakeProcess } from "./fake-process.ts";
import { eventsOf, outputOf } from "./fake-streams.ts";
import { until } from "./until.ts";

/** A backend on a host in memory. */
export class FakeBackend extends FakeFileCalls implements Backend {
  readonly #host: FakeHost;
  readonly #sandboxId: string;
  readonly #dialBack: DialBack | undefined;

  constructor(host: FakeHost, sandboxId: string, dialBack: DialBack | undefined) {
    super();
    this.#host = host;
    this.#sandboxId = sandboxId;
    this.#dialBack = dialBack;
  }

  async start(spec: StartSpec): Promise<StartOutcome> {
    this.#answer();
    this.#host.heldStarts += 1;
    await until(() => !this.#host.holdsStarts);
    this.#host.heldStarts -= 1;
    if (this.#host.stopped.has(this.#sandboxId)) throw new ApiError("sandbox_ended");
    const existing = this.#host.containers.get(this.#sandboxId);
    if (existing?.spec.generation === spec.generation) {
      return { kind: "adopted", publishedPorts: publish(existing.spec) };
    }
    let files = new FakeFiles();
    if (spec.image.startsWith("im-")) {
      const image = this.#host.images.get(spec.image);
      if (!image) return { kind: "failed", error: `There is no image ${spec.image} on this host.` };
      files = image.copy();
    } else if (spec.image.includes("missing")) {
      return { kind: "failed", error: `The image ${spec.image} cannot be pulled.` };
    }
    if (spec.entrypoint?.[0]?.includes("nope")) {
      return { kind: "failed", error: `${spec.entrypoint[0]}: no such program.` };
    }
    this.#host.containers.set(this.#sandboxId, new FakeContainer(spec, files, this.#host.volumes));
    this.#host.launches.set(this.#sandboxId, (this.#host.launches.get(this.#sandboxId) ?? 0) + 1);
    return { kind: "launched", publishedPorts: publish(spec) };
  }

  async inspect(): Promise<ContainerStatus> {
    this.#answer();
    await this.#wait(this.#host.slow.inspect.shift());
    this.#host.inspections += 1;
    const container = this.#host.containers.get(this.#sandboxId);
    if (!container) return { kind: "gone" };
    const { generation } = container.spec;
    if (container.exit) return { kind: "exited", generation, exit: container.exit };
    const busy = container.isBusy;
    return { kind: "running", generation, busy, idle_ms: Math.max(0, Date.now() - container.lastActiveAt) };
  }

  async stop(): Promise<void> {
    this.#answer();
    this.#host.stopped.add(this.#sandboxId);
    this.#host.remove(this.#sandboxId);
  }

  async setDeadline({ revision, remainingMs }: MovedDeadline): Promise<void> {
    await this.#wait(this.#host.slow.setDeadline.shift());
    this.#running().moveDeadline(revision, Date.now() + remainingMs);
  }

  async setNetwork({ revision, policy }: NetworkChange): Promise<void> {
    const container = this.#running();
    const { outbound, headers, inbound_cidrs: inbound } = policy;
    const needsRules = outbound ?? headers ?? (container.spec.raw_ports.length > 0 && inbound);
    if (this.#host.hasNoRules && needsRules) throw unsupported("network", "this host holds no rules");
    container.setNetwork(revision, policy);
    if (this.#host.losesAnswers) throw new ApiError("backend_unavailable", { detail: "The answer is lost." });
  }

  async exec(spec: ExecSpec, waitMs = 0): Promise<ProcessStatus> {
    const container = spec.is_probe ? this.#running() : this.used();
    if (spec.process_id === MAIN_PROCESS_ID) throw new ApiError("invalid_request");
    if (this.#host.refusal) throw new ApiError(this.#host.refusal);
    const process = container.processes.get(spec.process_id) ?? container.launch(spec);
    const status = await this.#status(process, waitMs);
    if (spec.is_probe) container.processes.delete(spec.process_id);
    return status;
  }

  async process(processId: string, waitMs = 0): Promise<ProcessStatus> {
    return this.#status(this.#find(processId), waitMs);
  }

  async processes(): Promise<ProcessStatus[]> {
    return [...this.#known().processes.values()].map((process) => process.tick().status(false));
  }

  async signal(processId: string, signal: SignalName): Promise<void> {
    this.used();
    this.#find(processId).signal(signal);
  }

  async output(processId: string, stream: OutputStream, offset: number, follow: boolean): Promise<ByteSource> {
    return { kind: "stream", body: outputOf(this.#find(processId), stream, offset, follow) };
  }

  async events(processId: string, from: Cursor): Promise<ByteSource> {
    return { kind: "stream", body: eventsOf(this.#find(processId), from) };
  }

  async writeStdin(
    processId: string,
    body: ReadableStream<Uint8Array>,
    { offset, eof }: StdinOptions,
  ): Promise<StdinState> {
    this.used();
    const process = this.#find(processId);
    process.requireInput();
    let at = offset ?? process.stdinOffset;
    if (at > process.stdinOffset) throw new ApiError("stdin_gap", { extra: { offset: process.stdinOffset } });
    for await (const chunk of body) {
      const isNew = chunk.subarray(Math.max(0, process.stdinOffset - at));
      at += chunk.length;
      if (isNew.length === 0) continue;
      if (process.isStdinClosed) throw new ApiError("stdin_closed");
      process.input(isNew);
    }
    if (eof) process.endInput();
    return { offset: process.stdinOffset, closed: process.isStdinClosed };
  }

  async resize(processId: string, size: TerminalSize): Promise<void> {
    this.used();
    this.#find(processId).resize(size);
  }

  async attach(processId: string, spec: AttachSpec): Promise<void> {
    this.used();
    const process = this.#find(processId);
    for (const stream of OUTPUT_STREAMS) process[stream].from(spec[`${stream}_offset`]);
    if (!this.#dialBack) throw new Error("This fake host dials nobody.");
    await this.#dialBack(this.#sandboxId, process, spec);
  }

  async commitVolumes(paths?: string[]): Promise<VolumeCommit[]> {
    return this.used().mounts.commit(paths);
  }

  async reloadVolumes(paths?: string[]): Promise<VolumeReload[]> {
    return this.used().mounts.reload(paths);
  }

  async snapshot({ imageId, stop, target }: SnapshotOrder): Promise<SnapshotResult> {
    const kept = this.#host.images.get(imageId) ?? this.used().files.copy();
    this.#host.images.set(imageId, kept);
    if (stop) await this.stop();
    const { size, contents } = kept;
    if (!target) return { size, uploadedBytes: 0 };
    if (!this.#host.push) throw new Error("This fake host knows no registry.");
    await this.#host.push(target, contents);
    return { size, uploadedBytes: size };
  }

  async forget(): Promise<void> {}

  async probePort(port: number): Promise<boolean> {
    return this.#running().listens(port);
  }

  async connect(port: number, request: Request, client?: string): Promise<Response> {
    if (!this.#running().listens(port)) throw new ApiError("port_unreachable");
    this.#host.clients.push(client);
    if (this.#host.app) return this.#host.app(request);
    return new Response(`${request.method} ${new URL(request.url).pathname}`, {
      headers: { "x-fake-port": String(port), "x-fake-headers": [...request.headers.keys()].join(" ") },
    });
  }

  async #wait(ms = 0): Promise<void> {
    if (ms > 0) await new Promise((wake) => setTimeout(wake, ms));
  }

  #answer(): void {
    if (!this.#host.isDown) return;
    throw new ApiError("backend_unavailable", { detail: "The fake host is down.", retryAfter: 1 });
  }

  protected used(): FakeContainer {
    const container = this.#running();
    container.lastActiveAt = Date.now();
    return container;
  }

  protected isOver(container: FakeContainer): boolean {
    return this.#host.containers.get(this.#sandboxId) !== container || container.exit !== undefined;
  }

  protected get faults(): FakeHost {
    return this.#host;
  }

  #running(): FakeContainer {
    this.#answer();
    const container = this.#host.containers.get(this.#sandboxId);
    if (!container || container.exit) throw new ApiError("sandbox_ended");
    return container;
  }

  /** The container, also one that has ended, for who reads what its processes did. */
  #known(): FakeContainer {
    this.#answer();
    const container = this.#host.containers.get(this.#sandboxId) ?? this.#host.removed.get(this.#sandboxId);
    if (!container) throw new ApiError("sandbox_ended");
    // An entrypoint that has ended has taken the others with it.
    void container.exit;
    return container;
  }

  #find(processId: string): FakeProcess {
    const process = this.#known().processes.get(processId);
    if (!process) throw new ApiError("process_not_found");
    return process.tick();
  }

  async #status(process: FakeProcess, waitMs: number): Promise<ProcessStatus> {
    if (waitMs > 0) await until(() => process.tick().returncode !== null, waitMs);
    return process.tick().status(waitMs > 0);
  }
}
