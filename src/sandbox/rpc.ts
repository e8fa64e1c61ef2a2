import type { ByteRange } from "../contract/byte-range.ts";
import type { BodyLength, HostPlacement, StdinOptions, Upload, WriteOptions } from "../backends/backend.ts";
import type { ByteSource, ByteTarget } from "../contract/byte-source.ts";
import type { ConnectToken, ConnectTokenCreate } from "../contract/connect-token.ts";
import type { ErrorCode } from "../contract/errors.ts";
import type { Cursor } from "../contract/events.ts";
import type { FileInfo, FileList, FileListRequest } from "../contract/file.ts";
import type { HostInfo } from "../contract/host-info.ts";
import type { ImageSource } from "../contract/host-protocol.ts";
import type { Image } from "../contract/image.ts";
import type { Page } from "../contract/list.ts";
import type {
  ContainerProcess,
  ExecRequest,
  OutputStream,
  SignalName,
  StdinState,
  TerminalSize,
} from "../contract/process.ts";
import type { BackendName, Sandbox, SandboxCreate, SandboxPatch, Tunnel, WaitFor } from "../contract/sandbox.ts";
import type { VolumeCommit, VolumeReload } from "../contract/volume-mount.ts";
import type { ProcessPageRequest } from "./process-page.ts";
import type { EventBatch } from "./waiting.ts";

/** Who may act on the sandbox: its environment. Any other is told that there is no such sandbox. */
export interface Scope {
  environment: string;
}

/** A create after the API has checked it and filled in its defaults. */
export interface CreateInput extends Scope {
  sandboxId: string;
  create: SandboxCreate;
  backend: BackendName;
  /** Where `create.image` is, when it is one of this deployment's own. */
  place: ImagePlace | undefined;
  /** Where it is to start, when that is known by now. */
  host?: HostPlacement | undefined;
}

/** Where an image of the deployment's own is. */
export interface ImagePlace {
  /** The host that made it. Without a `source` it starts only there. */
  hostId?: string;
  /** The platform's name of a snapshot of Cloudflare's. */
  snapshotId?: string;
  /** Where the registry has it. */
  source?: Pick<ImageSource, "repository" | "digest">;
  /** What of hosts it starts on. */
  runtime?: HostInfo["runtime"];
}

/** A snapshot to be made. `ttl`: seconds until it is deleted, null for never. */
export interface SnapshotRequest {
  imageId: string;
  name?: string | undefined;
  ttl: number | null;
}

/** An exec's answer, with the output (base64) when it was waited for. */
export interface ExecAnswer {
  process: ContainerProcess;
  output: { stdout: string; stderr: string; stdout_truncated: boolean; stderr_truncated: boolean } | undefined;
}

/** A process that has just been started, and where its events come from. */
export interface StreamedExec {
  process: ContainerProcess;
  events: ByteSource;
}

/** Which bytes of a process's output are asked for. */
export interface OutputRequest {
  processId: string;
  stream: OutputStream;
  offset: number;
  follow: boolean;
}

/** A file on its way out. RPC carries the stream. */
export interface FileAnswer {
  body: ReadableStream<Uint8Array>;
  size: number | undefined;
  range: { first: number; last: number } | undefined;
}

/** The domain under which ports answer, as the API was called: `localhost`, its port, and its scheme. */
export interface TunnelOrigin {
  protocol: "http:" | "https:";
  domain: string;
  port: number;
}

/**
 * What the API may ask of a sandbox's Durable Object. Every method but `create` throws
 * `ApiError("sandbox_not_found")` when the object holds no sandbox of that environment; those that need
 * the container wait for its start and throw `sandbox_ended` when there is none any more.
 */
export interface SandboxRpc {
  create(input: CreateInput): Promise<Sandbox>;
  describe(scope: Scope): Promise<Sandbox>;
  /** Changes all that the patch names, or nothing. The caller has claimed the name. */
  update(scope: Scope, patch: SandboxPatch): Promise<Sandbox>;
  /** The sandbox once it is so, or has ended, or the time is up. */
  wait(scope: Scope, until: WaitFor, waitMs: number): Promise<Sandbox>;
  /** What happened behind the event of this number, as soon as there is anything; nothing when the time is up. */
  eventsAfter(scope: Scope, seq: number, waitMs: number): Promise<EventBatch>;
  terminate(scope: Scope): Promise<void>;
  exec(scope: Scope, request: ExecRequest, waitMs: number, idempotencyKey?: string): Promise<ExecAnswer>;
  execStreamed(scope: Scope, request: ExecRequest, idempotencyKey?: string): Promise<StreamedExec>;
  getProcess(scope: Scope, processId: string, waitMs: number): Promise<ContainerProcess>;
  listProcesses(scope: Scope, page: ProcessPageRequest): Promise<Page<ContainerProcess>>;
  /** Where the bytes are. When opening that source fails, `recallOutput` says what the object itself knows. */
  output(scope: Scope, request: OutputRequest): Promise<ByteSource>;
  recallOutput(scope: Scope, request: OutputRequest, failure: ErrorCode): Promise<ByteSource>;
  events(scope: Scope, processId: string, from: Cursor): Promise<ByteSource>;
  recallEvents(scope: Scope, processId: string, from: Cursor, failure: ErrorCode): Promise<ByteSource>;
  writeStdin(
    scope: Scope,
    processId: string,
    body: ReadableStream<Uint8Array>,
    options: StdinOptions,
  ): Promise<StdinState>;
  resize(scope: Scope, processId: string, size: TerminalSize): Promise<void>;
  signal(scope: Scope, processId: string, signal: SignalName): Promise<void>;
  readFile(scope: Scope, path: string, range?: ByteRange): Promise<FileAnswer>;
  writeFile(scope: Scope, path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<void>;
  /** Of the volumes mounted at these paths, or all of them. Throws `invalid_request` naming a path where none is, `volume_not_stored`. */
  commitVolumes(scope: Scope, paths?: string[]): Promise<VolumeCommit[]>;
  reloadVolumes(scope: Scope, paths?: string[]): Promise<VolumeReload[]>;
  stat(scope: Scope, path: string): Promise<FileInfo>;
  listFiles(scope: Scope, path: string, request: FileListRequest): Promise<FileList>;
  makeDirectory(scope: Scope, path: string, parents: boolean): Promise<FileInfo>;
  moveFile(scope: Scope, from: string, to: string): Promise<void>;
  removeFile(scope: Scope, path: string, recursive: boolean): Promise<void>;
  /** Where the events are. Opening that source having failed, it is asked for again with the `failure`. */
  watchFiles(scope: Scope, path: string, recursive: boolean, failure?: ErrorCode): Promise<ByteSource>;
  readArchive(scope: Scope, path: string, failure?: ErrorCode): Promise<ByteSource>;
  writeArchive(scope: Scope, path: string, body: ReadableStream<Uint8Array>, length: BodyLength): Promise<void>;
  /** Where the body goes; undefined where it must pass the object, see `writeFile` and `writeArchive`. Sending having failed, it is asked for again with the `failure`. */
  uploadTarget(scope: Scope, upload: Upload, failure?: ErrorCode): Promise<ByteTarget | undefined>;
  /** Begins a snapshot, and unless `isAsync` waits until it is made. Throws what it fails of. */
  snapshot(scope: Scope, request: SnapshotRequest, isAsync: boolean): Promise<Image>;
  /** What the sandbox was made from, for another one like it. */
  origin(scope: Scope): Promise<SandboxCreate>;
  /** The images of the deployment that containers beside the objects start from; undefined where it has no containers. */
  deployedImages(): Promise<string[] | undefined>;
  tunnels(scope: Scope, origin: TunnelOrigin): Promise<Record<string, Tunnel>>;
  connectToken(scope: Scope, request: ConnectTokenCreate, origin: TunnelOrigin): Promise<ConnectToken>;
}
