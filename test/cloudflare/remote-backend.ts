import type { ByteRange } from "../../src/contract/byte-range.ts";
import type {
  Backend,
  BodyLength,
  FileContent,
  MovedDeadline,
  NetworkChange,
  SnapshotOrder,
  SnapshotResult,
  StartOutcome,
  StdinOptions,
  WriteOptions,
} from "../../src/backends/backend.ts";
import type { ByteSource } from "../../src/contract/byte-source.ts";
import { ApiError, type ApiErrorOptions, type ErrorCode } from "../../src/contract/errors.ts";
import type { Cursor } from "../../src/contract/events.ts";
import type { FileInfo, FileList, FileListRequest } from "../../src/contract/file.ts";
import type { ContainerStatus, ExecSpec, ProcessStatus, StartSpec } from "../../src/contract/host-protocol.ts";
import type { OutputStream, SignalName, StdinState, TerminalSize } from "../../src/contract/process.ts";

/** What the platform calls the snapshots that were made: the catalog knows it in the product. */
const snapshotIds = new Map<string, string>();

/** The backend in the object of that name, over HTTP to the Worker of `worker.ts`. */
export class RemoteBackend implements Backend {
  readonly #url: string;

  constructor(workerUrl: string, name: string) {
    this.#url = `${workerUrl}/${name}`;
  }

  start(spec: StartSpec): Promise<StartOutcome> {
    const snapshotId = snapshotIds.get(spec.image);
    return this.json({ method: "start", args: [spec], ...(snapshotId !== undefined && { snapshotId }) });
  }
  inspect(): Promise<ContainerStatus> {
    return this.json({ method: "inspect", args: [] });
  }
  stop(): Promise<void> {
    return this.json({ method: "stop", args: [] });
  }
  setDeadline(deadline: MovedDeadline): Promise<void> {
    return this.json({ method: "setDeadline", args: [deadline] });
  }
  setNetwork(change: NetworkChange): Promise<void> {
    return this.json({ method: "setNetwork", args: [change] });
  }
  exec(spec: ExecSpec, waitMs = 0): Promise<ProcessStatus> {
    return this.json({ method: "exec", args: [spec, waitMs] });
  }
  process(processId: string, waitMs = 0): Promise<ProcessStatus> {
    return this.json({ method: "process", args: [processId, waitMs] });
  }
  processes(): Promise<ProcessStatus[]> {
    return this.json({ method: "processes", args: [] });
  }
  signal(processId: string, signal: SignalName): Promise<void> {
    return this.json({ method: "signal", args: [processId, signal] });
  }
  async output(processId: string, stream: OutputStream, offset: number, follow: boolean): Promise<ByteSource> {
    return this.#source({ method: "output", args: [processId, stream, offset, follow] });
  }
  async events(processId: string, from: Cursor): Promise<ByteSource> {
    return this.#source({ method: "events", args: [processId, from] });
  }
  writeStdin(processId: string, body: ReadableStream<Uint8Array>, options: StdinOptions): Promise<StdinState> {
    return this.json({ method: "writeStdin", args: [processId, options], bodyAt: 1 }, body);
  }
  resize(processId: string, size: TerminalSize): Promise<void> {
    return this.json({ method: "resize", args: [processId, size] });
  }
  async attach(): Promise<void> {
    throw new Error("a test attaches through the whole product");
  }
  async readFile(path: string, range?: ByteRange): Promise<FileContent> {
    const response = await this.call({ method: "readFile", args: range ? [path, range] : [path] });
    const file = JSON.parse(response.headers.get("x-file")!) as Partial<Omit<FileContent, "body">>;
    return { size: file.size, range: file.range, body: response.body ?? new Response("").body! };
  }
  writeFile(path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<void> {
    return this.json({ method: "writeFile", args: [path, options], bodyAt: 1 }, body);
  }
  stat(path: string): Promise<FileInfo> {
    return this.json({ method: "stat", args: [path] });
  }
  list(path: string, request: FileListRequest): Promise<FileList> {
    return this.json({ method: "list", args: [path, request] });
  }
  makeDirectory(path: string, parents: boolean): Promise<FileInfo> {
    return this.json({ method: "makeDirectory", args: [path, parents] });
  }
  move(from: string, to: string): Promise<void> {
    return this.json({ method: "move", args: [from, to] });
  }
  remove(path: string, recursive: boolean): Promise<void> {
    return this.json({ method: "remove", args: [path, recursive] });
  }
  async watch(path: string, recursive: boolean): Promise<ByteSource> {
    return this.#source({ method: "watch", args: [path, recursive] });
  }
  async readArchive(path: string): Promise<ByteSource> {
    return this.#source({ method: "readArchive", args: [path] });
  }
  writeArchive(path: string, body: ReadableStream<Uint8Array>, options: BodyLength): Promise<void> {
    return this.json({ method: "writeArchive", args: [path, options], bodyAt: 1 }, body);
  }
  commitVolumes(): Promise<never> {
    return this.json({ method: "commitVolumes", args: [] });
  }
  reloadVolumes(): Promise<never> {
    return this.json({ method: "reloadVolumes", args: [] });
  }
  async snapshot(order: SnapshotOrder): Promise<SnapshotResult> {
    const result = await this.json<SnapshotResult>({ method: "snapshot", args: [order] });
    snapshotIds.set(order.imageId, result.snapshotId!);
    return result;
  }
  forget(): Promise<void> {
    return this.json({ method: "forget", args: [] });
  }
  probePort(port: number): Promise<boolean> {
    return this.json({ method: "probePort", args: [port] });
  }
  async connect(): Promise<Response> {
    throw new Error("a test connects through the whole product");
  }

  /** Ends the life of the object, and with it all that is only in its memory. */
  async endLife(): Promise<void> {
    await this.call({ method: "abort", args: [] }).catch(() => undefined);
  }
  life(): Promise<string> {
    return this.json({ method: "life", args: [] });
  }

  async #source(call: object): Promise<ByteSource> {
    return { kind: "stream", body: (await this.call(call)).body! };
  }

  async json<T>(call: object, body?: ReadableStream<Uint8Array>): Promise<T> {
    return (await (await this.call(call, body)).json()) as T;
  }

  async call(call: object, body?: ReadableStream<Uint8Array>): Promise<Response> {
    const response = await fetch(this.#url, {
      method: "POST",
      headers: { "x-call": encodeURIComponent(JSON.stringify(call)) },
      ...(body && { body, duplex: "half" as const }),
    });
    if (response.ok) return response;
    const text = await response.text();
    if (response.status !== 400) throw new Error(`${response.status} ${text}`);
    const { code, options } = JSON.parse(text) as { code: ErrorCode; options: ApiErrorOptions };
    throw new ApiError(code, options);
  }
}
