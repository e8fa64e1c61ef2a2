import type { AttachSpec } from "../../contract/attach.ts";
import type { ByteSource } from "../../contract/byte-source.ts";
import { ApiError } from "../../contract/errors.ts";
import type { Cursor } from "../../contract/events.ts";
import type { ContainerStatus, ExecSpec, ProcessStatus, StartSpec } from "../../contract/host-protocol.ts";
import { MAIN_PROCESS_ID } from "../../contract/ids.ts";
import type { OutputStream, SignalName, StdinState, TerminalSize } from "../../contract/process.ts";
import { processEvents } from "../../process/process-events.ts";
import { statusAfter, statusOf } from "../../process/process-status.ts";
import type { Backend, MovedDeadline, SnapshotOrder, SnapshotResult, StartOutcome, StdinOptions } from "../backend.ts";
import { toBase64 } from "./base64.ts";
import { fixedNetwork } from "./capabilities.ts";
import { CloudflareFiles } from "./cloudflare-files.ts";
import type { ContainerHost } from "./container-host.ts";
import { streamOfEvents, streamOfLog } from "./streams.ts";

/** One sandbox's container beside its own object, on Cloudflare Containers. */
export class CloudflareBackend extends CloudflareFiles implements Backend {
  readonly #generation: number;
  /** The platform's name of the snapshot that the sandbox starts from. */
  readonly #snapshotId: string | undefined;

  constructor(host: ContainerHost, generation: number, snapshotId?: string) {
    super(host);
    this.#generation = generation;
    this.#snapshotId = snapshotId;
  }

  async start(spec: StartSpec): Promise<StartOutcome> {
    return this.host.start(spec, this.#snapshotId);
  }

  async inspect(): Promise<ContainerStatus> {
    return this.host.inspect();
  }

  stop(): Promise<void> {
    return this.host.stop(this.#generation);
  }

  /** One object, one writer: nothing overtakes anything here. */
  async setDeadline({ remainingMs }: MovedDeadline): Promise<void> {
    await this.host.ask(() => this.host.container.setDeadline(Date.now() + remainingMs));
  }

  async setNetwork(): Promise<void> {
    await this.host.ask(() => Promise.reject(fixedNetwork()));
  }

  async exec(spec: ExecSpec, waitMs = 0): Promise<ProcessStatus> {
    const { processes } = this.host;
    if (spec.process_id === MAIN_PROCESS_ID) throw new ApiError("invalid_request");
    const run = async () => statusAfter((await processes.start(spec)).process, waitMs, toBase64);
    return spec.is_probe ? this.host.ask(run) : this.host.operate(run);
  }

  async process(processId: string, waitMs = 0): Promise<ProcessStatus> {
    return statusAfter(await this.host.find(processId), waitMs, toBase64);
  }

  async processes(): Promise<ProcessStatus[]> {
    return (await this.host.known()).all.map(statusOf);
  }

  async signal(processId: string, signal: SignalName): Promise<void> {
    await this.host.operate(async () => (await this.host.find(processId)).signal(signal));
  }

  async output(processId: string, stream: OutputStream, offset: number, follow: boolean): Promise<ByteSource> {
    const process = await this.host.find(processId);
    return { kind: "stream", body: streamOfLog(process.logs[stream].read(offset, follow)) };
  }

  async events(processId: string, from: Cursor): Promise<ByteSource> {
    return { kind: "stream", body: streamOfEvents(processEvents(await this.host.find(processId), from, toBase64)) };
  }

  async writeStdin(processId: string, body: ReadableStream<Uint8Array>, options: StdinOptions): Promise<StdinState> {
    const process = await this.host.find(processId);
    if (!process.input) throw new ApiError("backend_unavailable", { retryAfter: 1 });
    const { input } = process;
    return process.exit ? input.write(body, options) : this.host.operate(() => input.write(body, options));
  }

  async resize(processId: string, size: TerminalSize): Promise<void> {
    await this.host.operate(async () => {
      const { resize, exit } = await this.host.find(processId);
      if (exit) throw new ApiError("process_ended", { detail: `The process ${processId} has ended.` });
      if (!resize) throw new ApiError("not_a_terminal");
      await resize(size);
    });
  }

  async attach(processId: string, spec: AttachSpec): Promise<void> {
    const process = await this.host.find(processId);
    this.host.attach(process, spec);
  }

  async snapshot({ imageId, stop }: SnapshotOrder): Promise<SnapshotResult> {
    const made = await this.host.operate(() => this.host.container.snapshot(imageId));
    if (stop) await this.stop();
    return made;
  }

  async forget(): Promise<void> {
    this.host.forget();
  }

  probePort(port: number): Promise<boolean> {
    return this.host.ask(() => this.host.container.probe(port));
  }

  connect(port: number, request: Request): Promise<Response> {
    return this.host.connect(port, request);
  }
}
