import type { ByteRange, WriteOptions } from "../backends/backend.ts";
import type { ContainerProcess, ExecRequest, SignalName } from "../contract/process.ts";
import type { BackendName, Sandbox, SandboxCreate, Tunnel } from "../contract/sandbox.ts";

/** Who may act on the sandbox: its environment. Any other is told that there is no such sandbox. */
export interface Scope {
  environment: string;
}

/** A create after the API has checked it and filled in its defaults. */
export interface CreateInput extends Scope {
  sandboxId: string;
  create: SandboxCreate;
  backend: BackendName;
  /** The host that holds the snapshot named by `create.image`, when there is one. */
  imageHostId: string | undefined;
}

/** An exec's answer, with the output (base64) when it was waited for. */
export interface ExecAnswer {
  process: ContainerProcess;
  output: { stdout: string; stderr: string; stdout_truncated: boolean; stderr_truncated: boolean } | undefined;
}

/** A file on its way out. RPC carries the stream. */
export interface FileAnswer {
  body: ReadableStream<Uint8Array>;
  size: number | undefined;
  range: { first: number; last: number } | undefined;
}

export interface SnapshotAnswer {
  size: number;
  /** The host that holds the snapshot. */
  hostId: string;
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
  terminate(scope: Scope): Promise<void>;
  exec(scope: Scope, request: ExecRequest, waitMs: number): Promise<ExecAnswer>;
  getProcess(scope: Scope, processId: string, waitMs: number): Promise<ContainerProcess>;
  listProcesses(scope: Scope): Promise<ContainerProcess[]>;
  signal(scope: Scope, processId: string, signal: SignalName): Promise<void>;
  readFile(scope: Scope, path: string, range?: ByteRange): Promise<FileAnswer>;
  writeFile(scope: Scope, path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<void>;
  snapshot(scope: Scope, imageId: string): Promise<SnapshotAnswer>;
  tunnels(scope: Scope, origin: TunnelOrigin): Promise<Record<string, Tunnel>>;
}
