import type { ContainerStatus, ExecSpec, ImageTarget, ProcessStatus, StartSpec } from "../contract/host-protocol.ts";
import type { AttachSpec } from "../contract/attach.ts";
import type { ByteRange } from "../contract/byte-range.ts";
import type { PortTarget } from "../contract/body-apart.ts";
import type { ByteSource, ByteTarget } from "../contract/byte-source.ts";
import type { FileInfo, FileList, FileListRequest } from "../contract/file.ts";
import type { NetworkPolicy } from "../contract/network.ts";
import type { VolumeCommit, VolumeReload } from "../contract/volume-mount.ts";
import type { OutputStream, SignalName, StdinState, TerminalSize } from "../contract/process.ts";

/** Where a sandbox runs: on a host, or in the container beside its own object. */
export type Placement =
  | {
      kind: "host";
      hostId: string;
      url: string;
      /** Of the key that the host has, as it last reported; 1 if left out. */
      keyVersion?: number;
      /** The devices that are the sandbox's alone, by UUID. */
      gpus?: string[];
      /** The warm container there that is to become the sandbox's, and those that make room for it. */
      warm?: string;
      evict?: string[];
    }
  /** `snapshotId`: the platform's name of the snapshot that it starts from. */
  | { kind: "cloudflare"; snapshotId?: string };

export type HostPlacement = Extract<Placement, { kind: "host" }>;

/** The host of a placement; undefined where there is none. */
export const hostIdOf = (placement: Placement | undefined): string | undefined =>
  placement?.kind === "host" ? placement.hostId : undefined;

/** A snapshot to be made. One id is one snapshot: what was made of it before is not made anew. */
export interface SnapshotOrder {
  imageId: string;
  /** Ends the container once its filesystem is kept. */
  stop: boolean;
  /** Where it is to be stored, of hosts; without it the image stays where it is made. */
  target?: ImageTarget;
}

/**
 * A snapshot that was made. `size` in bytes, where it is; `snapshotId`: what the platform calls it, where it has names of its own;
 * `uploadedBytes`: what its registry did not have.
 */
export interface SnapshotResult {
  size: number;
  snapshotId?: string;
  uploadedBytes?: number;
}

/** What `start` did: made the container, or found it made by the same generation. */
export type StartOutcome =
  | { kind: "launched" | "adopted"; publishedPorts: Record<string, number> }
  /** The container cannot start and never will; `error` is for the user. */
  | { kind: "failed"; error: string };

export interface FileContent {
  body: ReadableStream<Uint8Array>;
  /** Bytes of the whole file; undefined for files that do not say (those of /proc). */
  size: number | undefined;
  /** Bytes `first` to `last`, both included, when a range was asked for and the size is known. */
  range: { first: number; last: number } | undefined;
}

export interface StdinOptions {
  /** Where in the whole input the body begins; left out, behind what the process already has. */
  offset?: number | undefined;
  eof: boolean;
}

/** How a body that is whole is told from one that broke off. */
export interface BodyLength {
  /** What it must measure. */
  size?: number;
  /** What ends it, and is not part of the content, where its size is not known: see `contract/end-marker.ts`. */
  endMarker?: string;
}

export interface WriteOptions extends BodyLength {
  /** Octal digits. */
  mode?: string;
}

/** What a body is to become: the file at the path, or what a tar holds in the directory there. */
export type Upload =
  | { what: "file"; path: string; options: WriteOptions }
  | { what: "archive"; path: string; options: BodyLength };

/** So many milliseconds from now. Of two that overtake each other the one of the higher `revision` counts. */
export interface MovedDeadline {
  revision: number;
  remainingMs: number;
}

/** Rules for the network of a container that runs. Of two that overtake each other the one of the higher `revision` counts. */
export interface NetworkChange {
  revision: number;
  policy: NetworkPolicy;
}

/** A request to a port, as the object has it. */
export interface ConnectCall {
  /** The address that it comes from, where that is known. */
  client?: string | undefined;
  /** A body is to follow. */
  bodyFollows: boolean;
}

/**
 * One container, run somewhere. A backend is bound to one sandbox and one generation of it; calls for a
 * container that is not there throw `ApiError("sandbox_ended")`, a backend out of reach throws
 * `ApiError("backend_unavailable")`, and neither is retried here.
 */
export interface Backend {
  /** Starts the container; the same generation again finds the first one (`adopted`). */
  start(spec: StartSpec): Promise<StartOutcome>;
  inspect(): Promise<ContainerStatus>;
  /** Ends the container and all in it at once; done when nothing is left. Idempotent. */
  stop(): Promise<void>;
  /** Moves the time at which the backend ends the container by itself. Throws `sandbox_ended` when it does not run. */
  setDeadline(deadline: MovedDeadline): Promise<void>;
  /**
   * Sets the rules of the container's network. Done once they hold: what they forbid outwards is cut. Throws `sandbox_ended` when it does not
   * run, and `unsupported_by_backend` where there can be no rules.
   */
  setNetwork(change: NetworkChange): Promise<void>;
  /** Starts a process. Answers once it runs, or with `waitMs` once it has ended or the time is up. */
  exec(spec: ExecSpec, waitMs?: number): Promise<ProcessStatus>;
  process(processId: string, waitMs?: number): Promise<ProcessStatus>;
  processes(): Promise<ProcessStatus[]>;
  /** Sends a signal to the process group. Nothing happens when the process has ended. */
  signal(processId: string, signal: SignalName): Promise<void>;
  /**
   * The bytes of an output stream from `offset`; with `follow` until the stream ends, else to what there is. An error,
   * `process_not_found` and `output_expired` among them, comes when the source is opened.
   */
  output(processId: string, stream: OutputStream, offset: number, follow: boolean): Promise<ByteSource>;
  /** Both outputs from these offsets and the end of the process, as the text of an event stream: see `contract/events.ts`. */
  events(processId: string, from: Record<OutputStream, number>): Promise<ByteSource>;
  /**
   * Gives the process input. What lies before the bytes it already has is not written again; a gap is `stdin_gap`, a stdin
   * that was never open or is closed `stdin_closed`. Answers once the process (or the pipe to it) has taken all. `eof` closes it.
   */
  writeStdin(processId: string, body: ReadableStream<Uint8Array>, options: StdinOptions): Promise<StdinState>;
  /** Throws `not_a_terminal`. */
  resize(processId: string, size: TerminalSize): Promise<void>;
  /**
   * Attaches to the process: the backend opens a socket to the sandbox's object and speaks on it as `contract/attach.ts` has
   * it. Done once that socket stands. Throws `process_not_found` and `output_expired`.
   */
  attach(processId: string, spec: AttachSpec): Promise<void>;
  readFile(path: string, range?: ByteRange): Promise<FileContent>;
  /** Writes the whole file or, when `body` breaks off, leaves it as it was. */
  writeFile(path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<void>;
  /** What is at the path, without following a link there. */
  stat(path: string): Promise<FileInfo>;
  /** What the directory holds. A link to a directory that is named by the path itself is followed, those below it are not. */
  list(path: string, request: FileListRequest): Promise<FileList>;
  /**
   * Makes a directory. With `parents` also those above it, and one that is there already is fine; without, `file_not_found` is a
   * parent that is missing and `file_exists` whatever is there.
   */
  makeDirectory(path: string, parents: boolean): Promise<FileInfo>;
  /**
   * Renames, making the parents of `to`. A file takes the place of a file (`is_a_directory` where one is there), a directory that of
   * an empty directory (`directory_not_empty`, `not_a_directory`). `invalid_request`: into itself.
   */
  move(from: string, to: string): Promise<void>;
  /** Removes what is at the path, a link itself. A directory that holds something only if `recursive` (`directory_not_empty`). */
  remove(path: string, recursive: boolean): Promise<void>;
  /** What happens to the path and, if it is a directory, in it (`recursive`: and below), as an event stream: see `contract/file.ts`. */
  watch(path: string, recursive: boolean): Promise<ByteSource>;
  /** A tar of what the directory holds (names relative to it), or of the one file. A source that breaks off is not the whole. */
  readArchive(path: string): Promise<ByteSource>;
  /**
   * Unpacks a tar into the directory, which is made if it is not there. Nothing is unpacked before the body has come whole and is a tar
   * (`invalid_request`). Owners and modes are taken over where the sandbox's user may.
   */
  writeArchive(path: string, body: ReadableStream<Uint8Array>, options: BodyLength): Promise<void>;
  /** The request that does what `writeFile` or `writeArchive` does, for whoever has the body. Absent where only the object reaches the container. */
  uploadTarget?(upload: Upload): Promise<ByteTarget>;
  /**
   * Stores what was written to the volumes mounted at these paths (left out: all that are not read-only). Throws
   * `volume_not_stored` naming what is not durable yet; asked again, it goes on.
   */
  commitVolumes(paths?: string[]): Promise<VolumeCommit[]>;
  /** Brings the mounts to what is committed; what was written here is committed before. Throws as `commitVolumes`. */
  reloadVolumes(paths?: string[]): Promise<VolumeReload[]>;
  /**
   * Keeps the filesystem as an image of this id, usable as `image` where the backend runs, or wherever its target is reached. Of a
   * container that has ended only what was kept of it before. Throws `snapshot_failed`, and
   * `image_not_stored` of what is kept all the same, with a reason.
   */
  snapshot(order: SnapshotOrder): Promise<SnapshotResult>;
  /** Lets go of all that is kept of an ended sandbox, what its processes wrote included. A host does that by itself. */
  forget(): Promise<void>;
  /** True once the port accepts a TCP connection. */
  probePort(port: number): Promise<boolean>;
  /**
   * Hands the HTTP or WebSocket request on to the port and answers what it answers. `client` is the address that it comes from: where
   * the container has rules for that, they count. Throws `port_unreachable`, and `forbidden` for whom the rules keep out.
   */
  connect(port: number, request: Request, client?: string): Promise<Response>;
  /**
   * The request of the same method to the host that does so, for whoever has the body: it need not pass the sandbox's object. A problem in its answer
   * is marked as one. Where a body follows, that may go apart from it. Absent where the container is beside the object.
   */
  connectTarget?(port: number, request: Request, call: ConnectCall): Promise<PortTarget>;
}
