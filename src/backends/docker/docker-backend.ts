import { z } from "zod";
import {
  ContainerStatusSchema,
  ProcessStatusSchema,
  SnapshotStatusSchema,
  StartResultSchema,
  type ContainerStatus,
  type ExecSpec,
  type NetworkUpdate,
  type ProcessStatus,
  type SnapshotSpec,
  type StartSpec,
} from "../../contract/host-protocol.ts";
import type { AttachSpec } from "../../contract/attach.ts";
import type { ByteSource } from "../../contract/byte-source.ts";
import type { PortTarget } from "../../contract/body-apart.ts";
import { ApiError } from "../../contract/errors.ts";
import type { Cursor } from "../../contract/events.ts";
import { problemInPlaceOf } from "../../contract/host-answer.ts";
import {
  StdinStateSchema,
  type OutputStream,
  type SignalName,
  type StdinState,
  type TerminalSize,
} from "../../contract/process.ts";
import {
  VolumeCommitSchema,
  VolumeReloadSchema,
  type VolumeCommit,
  type VolumeReload,
  type VolumesOrder,
} from "../../contract/volume-mount.ts";
import type {
  Backend,
  ConnectCall,
  MovedDeadline,
  NetworkChange,
  SnapshotOrder,
  SnapshotResult,
  StartOutcome,
  StdinOptions,
} from "../backend.ts";
import { HostClient, type HostAddress, type RelocateHost } from "./host-client.ts";
import { HostFiles } from "./host-files.ts";

/** A start may pull an image first. */
const START_TIMEOUT_MS = 11 * 60_000;
const SNAPSHOT_TIMEOUT_MS = 90 * 60_000;
const SNAPSHOT_POLL_MS = 20_000;
/** The host dials back meanwhile. */
const ATTACH_TIMEOUT_MS = 15_000;
/** What is written to a volume is uploaded, or what others wrote downloaded. */
const VOLUMES_TIMEOUT_MS = 10 * 60_000;
/** What a call may take beyond the time that it was asked to wait. */
const WAIT_GRACE_MS = 30_000;

/** One sandbox's container on a `sandbar host`, over the signed host protocol. */
export class DockerBackend extends HostFiles implements Backend {
  readonly #generation: number;

  constructor(
    sandboxId: string,
    generation: number,
    host: HostAddress,
    signingSecret: string,
    relocate?: RelocateHost,
  ) {
    super(new HostClient(host, signingSecret, relocate), `/v1/sandboxes/${sandboxId}`);
    this.#generation = generation;
  }

  async start(spec: StartSpec): Promise<StartOutcome> {
    const result = await this.client.json(StartResultSchema, "PUT", this.base, {
      body: spec,
      timeoutMs: START_TIMEOUT_MS,
    });
    return result.kind === "failed" ? result : { kind: result.kind, publishedPorts: result.published_ports };
  }

  inspect(): Promise<ContainerStatus> {
    return this.client.json(ContainerStatusSchema, "GET", this.base, { timeoutMs: 10_000 });
  }

  stop(): Promise<void> {
    // With its generation a stop that overtakes its own start still wins, and a late one spares the next start.
    return this.client.run("DELETE", `${this.base}?generation=${this.#generation}`, { timeoutMs: 60_000 });
  }

  setDeadline({ revision, remainingMs }: MovedDeadline): Promise<void> {
    const body = { generation: this.#generation, revision, remaining_ms: remainingMs };
    return this.client.run("PUT", `${this.base}/deadline`, { body, timeoutMs: 10_000 });
  }

  setNetwork({ revision, policy }: NetworkChange): Promise<void> {
    const body: NetworkUpdate = { generation: this.#generation, revision, policy };
    return this.client.run("PUT", `${this.base}/network`, { body, timeoutMs: 15_000 });
  }

  exec(spec: ExecSpec, waitMs = 0): Promise<ProcessStatus> {
    return this.client.json(ProcessStatusSchema, "POST", `${this.base}/processes?wait_ms=${waitMs}`, {
      body: spec,
      timeoutMs: waitMs + WAIT_GRACE_MS,
    });
  }

  process(processId: string, waitMs = 0): Promise<ProcessStatus> {
    return this.client.json(ProcessStatusSchema, "GET", `${this.base}/processes/${processId}?wait_ms=${waitMs}`, {
      timeoutMs: waitMs + WAIT_GRACE_MS,
    });
  }

  processes(): Promise<ProcessStatus[]> {
    return this.client.json(z.array(ProcessStatusSchema), "GET", `${this.base}/processes`);
  }

  signal(processId: string, signal: SignalName): Promise<void> {
    return this.client.run("POST", `${this.base}/processes/${processId}/signal`, { body: { signal } });
  }

  output(processId: string, stream: OutputStream, offset: number, follow: boolean): Promise<ByteSource> {
    return this.client.source(`${this.base}/processes/${processId}/${stream}?offset=${offset}&follow=${follow}`);
  }

  events(processId: string, { stdout, stderr }: Cursor): Promise<ByteSource> {
    return this.client.source(`${this.base}/processes/${processId}/events?stdout=${stdout}&stderr=${stderr}`);
  }

  writeStdin(processId: string, body: ReadableStream<Uint8Array>, options: StdinOptions): Promise<StdinState> {
    const query = new URLSearchParams({ eof: String(options.eof) });
    if (options.offset !== undefined) query.set("offset", String(options.offset));
    const target = `${this.base}/processes/${processId}/stdin?${query}`;
    return this.client.upload(StdinStateSchema, "POST", target, body);
  }

  resize(processId: string, size: TerminalSize): Promise<void> {
    return this.client.run("POST", `${this.base}/processes/${processId}/resize`, { body: size });
  }

  attach(processId: string, spec: AttachSpec): Promise<void> {
    const target = `${this.base}/processes/${processId}/attachments`;
    return this.client.run("POST", target, { body: spec, timeoutMs: ATTACH_TIMEOUT_MS });
  }

  commitVolumes(paths?: string[]): Promise<VolumeCommit[]> {
    return this.#volumes(VolumeCommitSchema, "commit", paths);
  }

  reloadVolumes(paths?: string[]): Promise<VolumeReload[]> {
    return this.#volumes(VolumeReloadSchema, "reload", paths);
  }

  /** The host is asked again and again: no connection has to last for as long as a large image takes. */
  async snapshot({ imageId, stop, target }: SnapshotOrder): Promise<SnapshotResult> {
    const body: SnapshotSpec = { generation: this.#generation, stop, ...(target && { target }) };
    const url = `${this.base}/snapshots/${imageId}?wait_ms=${SNAPSHOT_POLL_MS}`;
    const timeoutMs = SNAPSHOT_POLL_MS + WAIT_GRACE_MS;
    for (const giveUpAt = Date.now() + SNAPSHOT_TIMEOUT_MS; ;) {
      const status = await this.client.json(SnapshotStatusSchema, "POST", url, { body, timeoutMs });
      if (status.kind === "done") return { size: status.size, uploadedBytes: status.uploaded_bytes };
      if (Date.now() > giveUpAt) throw new ApiError("snapshot_failed", { detail: "The snapshot took too long." });
    }
  }

  async forget(): Promise<void> {}

  async probePort(port: number): Promise<boolean> {
    const schema = z.object({ open: z.boolean() });
    return (await this.client.json(schema, "GET", `${this.base}/ports/${port}`, { timeoutMs: 10_000 })).open;
  }

  async connect(port: number, request: Request, client?: string): Promise<Response> {
    const { method, body, signal } = request;
    const headers = onwardHeaders(request, client);
    const answer = await this.client.send(method, this.#proxyPath(port), { headers, body, signal });
    const problem = await problemInPlaceOf(answer);
    if (problem) throw problem;
    return answer;
  }

  async connectTarget(port: number, request: Request, call: ConnectCall): Promise<PortTarget> {
    const { url, headers } = await this.client.target(this.#proxyPath(port), request.method);
    const target = { url, headers: { ...Object.fromEntries(onwardHeaders(request, call.client)), ...headers } };
    if (!call.bodyFollows) return target;
    const id = crypto.randomUUID();
    return { ...target, body: { id, ...(await this.client.target(`${this.base}/ports/${port}/bodies/${id}`)) } };
  }

  #proxyPath(port: number): string {
    return `${this.base}/ports/${port}/proxy`;
  }

  #volumes<Schema extends z.ZodType>(one: Schema, what: string, paths?: string[]): Promise<z.output<Schema>[]> {
    const body: VolumesOrder = paths === undefined ? {} : { paths };
    return this.client.json(z.array(one), "POST", `${this.base}/volumes/${what}`, {
      body,
      timeoutMs: VOLUMES_TIMEOUT_MS,
    });
  }
}

/** The request's headers, with what the host is to know of it. */
function onwardHeaders(request: Request, client: string | undefined): Headers {
  const url = new URL(request.url);
  const headers = new Headers(request.headers);
  headers.set("x-sandbar-target", url.pathname + url.search);
  headers.set("x-sandbar-host", url.host);
  headers.set("x-sandbar-protocol", url.protocol.slice(0, -1));
  if (client !== undefined) headers.set("x-sandbar-client", client);
  return headers;
}
