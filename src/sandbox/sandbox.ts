import { DurableObject } from "cloudflare:workers";
import type { Backend, ByteRange, WriteOptions } from "../backends/backend.ts";
import { backendOpener, type OpenBackend } from "../backends/index.ts";
import { ApiError, hasCode } from "../contract/errors.ts";
import type { ContainerProcess, ExecRequest, SignalName } from "../contract/process.ts";
import { isLive, type Sandbox as SandboxDocument, type Tunnel } from "../contract/sandbox.ts";
import { findHosts, locateHost } from "../placement/find-hosts.ts";
import { publishSandbox } from "../placement/publish.ts";
import { Cleanup } from "./cleanup.ts";
import { describeProcess, describeSandbox } from "./describe.ts";
import { endedError, Lifecycle } from "./lifecycle.ts";
import { Outbox } from "./outbox.ts";
import { Probe } from "./probe.ts";
import { Processes } from "./processes.ts";
import type { CreateInput, ExecAnswer, FileAnswer, SandboxRpc, Scope, SnapshotAnswer, TunnelOrigin } from "./rpc.ts";
import { replyWith, type Replies, type Reply } from "./reply.ts";
import { Starter } from "./starter.ts";
import { newRecord, SandboxStore, type SandboxRecord } from "./store.ts";
import { forwardToPort, problemAnswer } from "./tunnel.ts";
import { tunnelsOf } from "./tunnels.ts";
import { Timers, type Timer } from "./timers.ts";
import { Watch } from "./watch.ts";

export interface SandboxEnv {
  DB: D1Database;
  SIGNING_SECRET: string;
}

/** A terminate answers after this long even when the host is still at it. */
const TERMINATE_WAIT_MS = 5000;

/** One sandbox: the truth about it. Wires the parts together and decides nothing itself. */
export class Sandbox<Env extends SandboxEnv = SandboxEnv> extends DurableObject<Env> implements Replies<SandboxRpc> {
  readonly #store: SandboxStore;
  readonly #timers: Timers;
  readonly #lifecycle: Lifecycle;
  readonly #outbox: Outbox;
  readonly #starter: Starter;
  readonly #watch: Watch;
  readonly #probe: Probe;
  readonly #cleanup: Cleanup;
  readonly #processes: Processes;
  #openBackend: OpenBackend | undefined;
  #operationsInFlight = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const now = () => Date.now();
    const open = () => this.#open(this.#record());
    this.#store = new SandboxStore(ctx.storage);
    this.#timers = new Timers(ctx.storage);
    this.#lifecycle = new Lifecycle(
      this.#store,
      this.#timers,
      {
        changed: () => {
          this.#outbox.schedule();
          ctx.waitUntil(this.#outbox.flush());
        },
        started: () => ctx.waitUntil(this.#probe.run()),
        ended: () => ctx.waitUntil(this.#cleanup.run()),
      },
      now,
    );
    this.#outbox = new Outbox(this.#lifecycle, this.#timers, (record) => publishSandbox(env.DB, record), now);
    this.#starter = new Starter(
      this.#lifecycle,
      this.#timers,
      (record) => findHosts(env.DB, record),
      (record) => this.#open(record),
      now,
    );
    this.#watch = new Watch(this.#lifecycle, this.#timers, open, now);
    this.#probe = new Probe(this.#lifecycle, this.#timers, open, now);
    this.#cleanup = new Cleanup(this.#lifecycle, this.#timers, open, now);
    this.#processes = new Processes(this.#store, this.#lifecycle, () => this.#running(), now);
  }

  /** How backends are opened; a test's subclass puts its fake here. */
  protected backends(): OpenBackend {
    return backendOpener(this.env.SIGNING_SECRET);
  }

  create(input: CreateInput): Promise<Reply<SandboxDocument>> {
    return replyWith(async () => {
      if (this.#store.record) return this.#describe(input);
      this.#store.save(newRecord(input, Date.now()));
      const created = describeSandbox(this.#record());
      this.#outbox.schedule();
      this.ctx.waitUntil(this.#starter.start());
      await this.#outbox.flush();
      return created;
    });
  }

  describe(scope: Scope): Promise<Reply<SandboxDocument>> {
    return replyWith(async () => this.#describe(scope));
  }

  terminate(scope: Scope): Promise<Reply<void>> {
    return replyWith(async () => {
      this.#scoped(scope);
      this.#lifecycle.apply({ kind: "terminate" });
      const done = Promise.all([this.#cleanup.run(), this.#outbox.flush()]);
      await Promise.race([done, new Promise((resolve) => setTimeout(resolve, TERMINATE_WAIT_MS))]);
    });
  }

  exec(scope: Scope, request: ExecRequest, waitMs: number): Promise<Reply<ExecAnswer>> {
    return this.#operation(scope, () => this.#processes.exec(request, waitMs));
  }

  getProcess(scope: Scope, processId: string, waitMs: number): Promise<Reply<ContainerProcess>> {
    return replyWith(async () => {
      const { sandboxId } = this.#scoped(scope);
      return describeProcess(sandboxId, await this.#processes.get(processId, waitMs));
    });
  }

  listProcesses(scope: Scope): Promise<Reply<ContainerProcess[]>> {
    return replyWith(async () => {
      const { sandboxId } = this.#scoped(scope);
      return (await this.#processes.list()).map((process) => describeProcess(sandboxId, process));
    });
  }

  signal(scope: Scope, processId: string, signal: SignalName): Promise<Reply<void>> {
    return this.#operation(scope, () => this.#processes.signal(processId, signal));
  }

  readFile(scope: Scope, path: string, range?: ByteRange): Promise<Reply<FileAnswer>> {
    return this.#operation(scope, async () => (await this.#running()).readFile(path, range));
  }

  writeFile(scope: Scope, path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<Reply<void>> {
    return this.#operation(scope, async () => (await this.#running()).writeFile(path, body, options));
  }

  snapshot(scope: Scope, imageId: string): Promise<Reply<SnapshotAnswer>> {
    return this.#operation(scope, async () => {
      const backend = await this.#running();
      const { hostId } = this.#record().placement!;
      const { size } = await backend.snapshot(imageId);
      return { size, hostId };
    });
  }

  tunnels(scope: Scope, origin: TunnelOrigin): Promise<Reply<Record<string, Tunnel>>> {
    return replyWith(async () => {
      this.#scoped(scope);
      await this.#running();
      return tunnelsOf(this.#record(), origin);
    });
  }

  /** A request to one of the sandbox's ports; the Worker names the port in `x-sandbar-port`. */
  override async fetch(request: Request): Promise<Response> {
    const reply = await this.#operation(undefined, () => forwardToPort(this.#record(), request, () => this.#running()));
    return reply.ok ? reply.value : problemAnswer(new ApiError(reply.code, reply.options));
  }

  /** True when this sandbox's container of that generation on that host is its own and is to live. */
  async claims(hostId: string, generation: number): Promise<boolean> {
    const record = this.#store.record;
    return (
      record !== undefined &&
      isLive(record.state) &&
      record.placement?.hostId === hostId &&
      record.generation === generation
    );
  }

  /** The host's report and the catalog differ about this sandbox: find out what is true. */
  async reconcile(): Promise<void> {
    const record = this.#store.record;
    if (!record) return;
    await this.#locateHost();
    if (!isLive(record.state)) this.ctx.waitUntil(this.#outbox.flush());
    else if (record.startedAt === undefined) this.ctx.waitUntil(this.#starter.start());
    else await this.#watch.check();
  }

  override async alarm(): Promise<void> {
    for (const timer of this.#timers.due(Date.now())) {
      try {
        await this.#fire(timer);
      } catch (error) {
        console.error(`The timer ${timer} of ${this.#store.record?.sandboxId} failed; it fires again.`, error);
        this.#timers.set(timer, Date.now() + 5000);
      }
    }
    this.#timers.rearm();
  }

  async #fire(timer: Timer): Promise<void> {
    // A host may have come back at another address since the object last spoke to it.
    if (timer === "idle" || timer === "cleanup") await this.#locateHost();
    switch (timer) {
      case "start":
        // Not waited for: a start may take minutes, and other timers must fire meanwhile.
        this.ctx.waitUntil(this.#starter.start());
        return;
      case "probe":
        this.ctx.waitUntil(this.#probe.run());
        return;
      case "lifetime":
        this.#lifecycle.apply({ kind: "lifetime_over" });
        return;
      case "idle":
        return this.#watch.checkIdle(this.#operationsInFlight);
      case "outbox":
        return this.#outbox.flush();
      case "cleanup":
        return this.#cleanup.run();
    }
  }

  #record(): SandboxRecord {
    const record = this.#store.record;
    if (!record) throw new ApiError("sandbox_not_found");
    return record;
  }

  /** The record, for those of its environment; for others there is no such sandbox. */
  #scoped(scope: Scope): SandboxRecord {
    const record = this.#record();
    if (record.environment !== scope.environment) throw new ApiError("sandbox_not_found");
    return record;
  }

  #open(record: SandboxRecord): Backend {
    if (!record.placement)
      throw new ApiError("backend_unavailable", { detail: "The sandbox is on no host.", retryAfter: 1 });
    this.#openBackend ??= this.backends();
    return this.#openBackend(record.sandboxId, record.generation, record.placement);
  }

  /** Looks up where the sandbox's host is now. */
  async #locateHost(): Promise<void> {
    const before = this.#record().placement;
    const now = before && (await locateHost(this.env.DB, before.hostId));
    if (now && now.url !== before.url) this.#lifecycle.update({ placement: now }, false);
  }

  #running(): Promise<Backend> {
    return this.#lifecycle.running((record) => this.#open(record));
  }

  #describe(scope: Scope): SandboxDocument {
    return describeSandbox(this.#scoped(scope), this.#timers.dueAt("idle"));
  }

  /** Counts as activity from its beginning to its end; a container that turns out to be gone ends the sandbox. */
  #operation<T>(scope: Scope | undefined, run: () => Promise<T>): Promise<Reply<T>> {
    return replyWith(async () => {
      if (scope) this.#scoped(scope);
      this.#operationsInFlight += 1;
      try {
        if (this.#store.record) this.#lifecycle.touch();
        return await run();
      } catch (error) {
        if (hasCode(error, "backend_unavailable")) await this.#locateHost().catch(() => undefined);
        if (hasCode(error, "sandbox_ended")) {
          await this.#watch.check().catch(() => undefined);
          const record = this.#record();
          if (!isLive(record.state)) throw endedError(record);
        }
        throw error;
      } finally {
        this.#operationsInFlight -= 1;
        if (this.#store.record) this.#lifecycle.touch();
      }
    });
  }
}
