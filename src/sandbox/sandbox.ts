import type { StdinOptions } from "../backends/backend.ts";
import { deployedImages, requireDeployedImage } from "./deployed-images.ts";
import type { ByteSource } from "../contract/byte-source.ts";
import type { ConnectToken, ConnectTokenCreate } from "../contract/connect-token.ts";
import { ApiError, type ErrorCode } from "../contract/errors.ts";
import type { Cursor } from "../contract/events.ts";
import { describeImage } from "../catalog/images.ts";
import type { Image } from "../contract/image.ts";
import type { Page } from "../contract/list.ts";
import type { ContainerProcess, ExecRequest, SignalName, StdinState, TerminalSize } from "../contract/process.ts";
import type { Sandbox as SandboxDocument, SandboxCreate, SandboxPatch, Tunnel, WaitFor } from "../contract/sandbox.ts";
import { goOff } from "./alarm.ts";
import { callOf } from "./call.ts";
import { describeProcess, describeSandbox } from "./describe.ts";
import { SandboxVolumes } from "./sandbox-volumes.ts";
import type { SandboxEnv } from "./object.ts";
import { pageOfProcesses, type ProcessPageRequest } from "./process-page.ts";
import type {
  CreateInput,
  ExecAnswer,
  OutputRequest,
  SandboxRpc,
  Scope,
  SnapshotRequest,
  StreamedExec,
  TunnelOrigin,
} from "./rpc.ts";
import { claims, needsPlace, reconcile } from "./reconcile.ts";
import { replyWith, type Replies, type Reply } from "../rpc/api-reply.ts";
import { serve } from "./serve.ts";
import { answerClose } from "./sockets.ts";
import { newRecord } from "./store.ts";
import { problemAnswer } from "./tunnel.ts";
import { tunnelsOf } from "./tunnels.ts";
import { eventsAfter, waitFor, type EventBatch } from "./waiting.ts";

/** A terminate answers after this long even when the host is still at it. */
const TERMINATE_WAIT_MS = 5000;

/** One sandbox: the truth about it. Hands each call to the part that answers it and decides nothing itself. */
export class Sandbox<Env extends SandboxEnv = SandboxEnv> extends SandboxVolumes<Env> implements Replies<SandboxRpc> {
  create(input: CreateInput): Promise<Reply<SandboxDocument>> {
    const { store, lifecycle, outbox, starter } = this.parts;
    return replyWith(async () => {
      if (store.record) return this.#describe(input);
      if (input.backend === "cloudflare") requireDeployedImage(this.ctx.container, input.create.image);
      lifecycle.begin(newRecord(input, Date.now()));
      const created = describeSandbox(store.record!);
      outbox.schedule();
      this.ctx.waitUntil(starter.start(input.host));
      await outbox.flush();
      return created;
    });
  }

  describe(scope: Scope): Promise<Reply<SandboxDocument>> {
    return replyWith(() => this.#describe(scope));
  }

  update(scope: Scope, patch: SandboxPatch): Promise<Reply<SandboxDocument>> {
    return this.reading(scope, async () => {
      await this.parts.changes.make(patch);
      await this.parts.outbox.flush();
      return this.#describe(scope);
    });
  }

  wait(scope: Scope, until: WaitFor, waitMs: number): Promise<Reply<SandboxDocument>> {
    return this.reading(scope, async () => {
      await waitFor(this.parts.lifecycle, until, waitMs, Date.now);
      return this.#describe(scope);
    });
  }

  eventsAfter(scope: Scope, seq: number, waitMs: number): Promise<Reply<EventBatch>> {
    const { events, lifecycle } = this.parts;
    return this.reading(scope, () => eventsAfter(events, lifecycle, seq, waitMs, Date.now));
  }

  terminate(scope: Scope): Promise<Reply<void>> {
    const { operations, lifecycle, cleanup, outbox } = this.parts;
    return replyWith(async () => {
      operations.record(scope);
      lifecycle.apply({ kind: "terminate" });
      const done = Promise.all([cleanup.run(), outbox.flush()]);
      await Promise.race([done, new Promise((resolve) => setTimeout(resolve, TERMINATE_WAIT_MS))]);
    });
  }

  exec(scope: Scope, request: ExecRequest, waitMs: number, idempotencyKey?: string): Promise<Reply<ExecAnswer>> {
    return this.operation(scope, () => this.parts.processes.exec(request, { waitMs, idempotencyKey }));
  }

  execStreamed(scope: Scope, request: ExecRequest, idempotencyKey?: string): Promise<Reply<StreamedExec>> {
    return this.operation(scope, async () => {
      const { process } = await this.parts.processes.exec(request, { isFollowed: true, idempotencyKey });
      return { process, events: await this.parts.output.events(process.process_id, { stdout: 0, stderr: 0 }) };
    });
  }

  getProcess(scope: Scope, processId: string, waitMs: number): Promise<Reply<ContainerProcess>> {
    return this.reading(scope, async () =>
      describeProcess(this.parts.store.record!.sandboxId, await this.parts.processes.get(processId, waitMs)),
    );
  }

  listProcesses(scope: Scope, page: ProcessPageRequest): Promise<Reply<Page<ContainerProcess>>> {
    return this.reading(scope, () => pageOfProcesses(this.parts.processes, this.parts.store.record!.sandboxId, page));
  }

  output(scope: Scope, request: OutputRequest): Promise<Reply<ByteSource>> {
    return this.reading(scope, () => this.parts.output.output(request));
  }

  recallOutput(scope: Scope, request: OutputRequest, failure: ErrorCode): Promise<Reply<ByteSource>> {
    return this.reading(scope, () => this.parts.output.recallOutput(request, failure));
  }

  events(scope: Scope, processId: string, from: Cursor): Promise<Reply<ByteSource>> {
    return this.reading(scope, () => this.parts.output.events(processId, from));
  }

  recallEvents(scope: Scope, processId: string, from: Cursor, failure: ErrorCode): Promise<Reply<ByteSource>> {
    return this.reading(scope, () => this.parts.output.recallEvents(processId, from, failure));
  }

  writeStdin(
    scope: Scope,
    processId: string,
    body: ReadableStream<Uint8Array>,
    options: StdinOptions,
  ): Promise<Reply<StdinState>> {
    return this.operation(scope, () => this.parts.processes.writeStdin(processId, body, options));
  }

  resize(scope: Scope, processId: string, size: TerminalSize): Promise<Reply<void>> {
    return this.operation(scope, () => this.parts.processes.resize(processId, size));
  }

  signal(scope: Scope, processId: string, signal: SignalName): Promise<Reply<void>> {
    return this.operation(scope, () => this.parts.processes.signal(processId, signal));
  }

  snapshot(scope: Scope, request: SnapshotRequest, isAsync: boolean): Promise<Reply<Image>> {
    return this.operation(scope, async () => describeImage(await this.parts.snapshots.take(request, isAsync)));
  }

  origin(scope: Scope): Promise<Reply<SandboxCreate>> {
    return this.reading(scope, async () => {
      const { create, backend, image } = this.parts.store.record!;
      return { ...create, backend, image };
    });
  }

  deployedImages(): Promise<Reply<string[] | undefined>> {
    return replyWith(async () => deployedImages(this.ctx.container));
  }

  tunnels(scope: Scope, origin: TunnelOrigin): Promise<Reply<Record<string, Tunnel>>> {
    return this.reading(scope, async () => {
      await this.parts.host.running();
      return tunnelsOf(this.parts.store.record!, origin);
    });
  }

  connectToken(scope: Scope, request: ConnectTokenCreate, origin: TunnelOrigin): Promise<Reply<ConnectToken>> {
    return this.reading(scope, () => this.parts.tokens.issue(this.parts.store.record!, request, origin));
  }

  /** What RPC does not carry: requests to ports, and sockets. */
  override async fetch(request: Request): Promise<Response> {
    const reply = await replyWith(async () => serve(this.parts, callOf(request), request));
    return reply.ok ? reply.value : problemAnswer(new ApiError(reply.code, reply.options));
  }

  override async webSocketMessage(socket: WebSocket, message: ArrayBuffer | string): Promise<void> {
    return this.parts.socketEvents.message(socket, message);
  }

  override async webSocketClose(socket: WebSocket, code: number, reason: string): Promise<void> {
    this.parts.socketEvents.gone(socket);
    answerClose(socket, code, reason);
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    this.parts.socketEvents.gone(socket);
  }

  /** True when this sandbox's container of that generation on that host is its own and is to live. */
  async claims(hostId: string, generation: number): Promise<boolean> {
    return claims(this.parts.store.record, hostId, generation, this.parts.snapshots.isKeepingAtEnd);
  }

  /** True while this sandbox has, or is about to have, its container on that host. */
  async needsPlace(hostId: string): Promise<boolean> {
    return needsPlace(this.parts.store.record, hostId);
  }

  /** The host's report and the catalog differ about this sandbox: find out what is true. */
  reconcile(): Promise<void> {
    return reconcile(this.parts, (work) => this.ctx.waitUntil(work));
  }

  override alarm(): Promise<void> {
    return goOff(this.parts, (work) => this.ctx.waitUntil(work));
  }

  async #describe(scope: Scope): Promise<SandboxDocument> {
    const { operations, watch } = this.parts;
    operations.record(scope);
    const idleExpiresAt = await watch.idleExpiresAt(operations.inFlight);
    return describeSandbox(operations.record(scope), idleExpiresAt);
  }
}
