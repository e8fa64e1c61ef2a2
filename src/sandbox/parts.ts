import type { OpenBackend } from "../backends/index.ts";
import type { PlacementBinding } from "../placement/client.ts";
import { VolumeCatalog } from "../catalog/volumes.ts";
import { SecretVault, type VaultEnv } from "../secrets/vault.ts";
import { publishSandbox, unpublishSandbox } from "../placement/publish.ts";
import { Attachments } from "./attachments.ts";
import { Bridge } from "./bridge.ts";
import { Changes } from "./changes.ts";
import { imageShelf, type ShelfEnv } from "./image-shelf.ts";
import { Cleanup } from "./cleanup.ts";
import { ContainerWatch } from "./container-watch.ts";
import { endImageOf } from "./describe.ts";
import { EventLog } from "./event-log.ts";
import { ExecSockets } from "./exec-sockets.ts";
import { HostDeadline } from "./host-deadline.ts";
import { HostLink } from "./host-link.ts";
import { Lifecycle } from "./lifecycle.ts";
import type { Limits } from "../contract/limits.ts";
import { hasStarted } from "./machine.ts";
import { NetworkRules } from "./network-rules.ts";
import { Operations } from "./operations.ts";
import { Outbox } from "./outbox.ts";
import { Places } from "./places.ts";
import { Probe } from "./probe.ts";
import { ProcessOutput } from "./process-output.ts";
import { Processes } from "./processes.ts";
import { ProcessesAtEnd } from "./processes-at-end.ts";
import { Retention } from "./retention.ts";
import { SnapshotJobs } from "./snapshot-jobs.ts";
import { Snapshots } from "./snapshots.ts";
import { SocketEvents } from "./socket-events.ts";
import { Sockets } from "./sockets.ts";
import { addedHeaders, startNeeds } from "./start-needs.ts";
import { Starter } from "./starter.ts";
import { SandboxStore, type SandboxRecord } from "./store.ts";
import { Timers, type Timer } from "./timers.ts";
import { TunnelTokens } from "./tunnel-tokens.ts";
import { Watch } from "./watch.ts";

/** What the parts are bound to. */
export interface PartsEnv extends ShelfEnv, PlacementBinding, VaultEnv {
  DB: D1Database;
}

/** The parts of the object, wired together. */
export class Parts {
  readonly store: SandboxStore;
  readonly events: EventLog;
  readonly timers: Timers;
  /** The timers whose work is under way. */
  readonly firing = new Set<Timer>();
  readonly lifecycle: Lifecycle;
  readonly host: HostLink;
  readonly outbox: Outbox;
  readonly deadline: HostDeadline;
  readonly network: NetworkRules;
  readonly changes: Changes;
  readonly starter: Starter;
  readonly watch: Watch;
  readonly containerWatch: ContainerWatch;
  readonly retention: Retention;
  readonly probe: Probe;
  readonly cleanup: Cleanup;
  readonly operations: Operations;
  readonly processes: Processes;
  readonly snapshots: Snapshots;
  readonly output: ProcessOutput;
  readonly attachments: Attachments;
  readonly execs: ExecSockets;
  readonly socketEvents: SocketEvents;
  readonly tokens: TunnelTokens;

  constructor(ctx: DurableObjectState, env: PartsEnv, limits: Limits, openBackend: () => OpenBackend) {
    const db = env.DB;
    const shelf = imageShelf(env);
    const places = new Places(env);
    const now = () => Date.now();
    const sockets = new Sockets(ctx);
    const isAttached = () => sockets.hasClients;
    this.store = new SandboxStore(ctx.storage);
    this.events = new EventLog(ctx.storage);
    this.timers = new Timers(ctx.storage);
    const effects = {
      changed: () => {
        this.outbox.schedule();
        ctx.waitUntil(this.outbox.flush());
      },
      started: () => {
        this.processes.recordMain();
        this.containerWatch.arm();
        ctx.waitUntil(this.probe.run());
      },
      ended: () => {
        this.containerWatch.ended();
        const endImageId = endImageOf(this.lifecycle.record!);
        if (endImageId !== undefined) this.snapshots.beginAtEnd(endImageId);
        this.retention.arm();
        ctx.waitUntil(this.socketEvents.sandboxEnded(this.cleanup.run()));
      },
    };
    const { store, events, timers } = this;
    this.lifecycle = new Lifecycle({ store, events, timers, effects, isAttached, now });
    let backends: OpenBackend | undefined;
    this.host = new HostLink(
      this.lifecycle,
      () => (backends ??= openBackend()),
      (hostId) => places.locate(hostId),
    );
    const open = () => this.host.open();
    this.outbox = new Outbox(this.lifecycle, this.timers, (record) => publishSandbox(db, record), now);
    this.deadline = new HostDeadline(this.lifecycle, this.timers, this.host, now);
    const { lifecycle, host, outbox } = this;
    const vault = new SecretVault(env);
    const headersOf = (record: SandboxRecord) => addedHeaders(record, { vault });
    this.network = new NetworkRules({ lifecycle, timers, host, places, headersOf, now });
    this.changes = new Changes(this.lifecycle, this.timers, this.deadline, this.network, now);
    this.watch = new Watch(this.lifecycle, this.timers, open, isAttached, now);
    const { watch } = this;
    const { hostLostAfterMs, keptMs, schedulingMs } = limits;
    const isPublished = async () => outbox.hasPublished || (await outbox.flush(), outbox.hasPublished);
    const needs = {
      vault,
      volumes: new VolumeCatalog(db),
      signingSecret: env.SIGNING_SECRET,
      isPublished,
    };
    this.starter = new Starter({
      lifecycle,
      timers,
      places,
      open: (record) => host.open(record),
      grantPull: shelf.grantPull,
      needsOf: (record) => startNeeds(record, needs),
      settleNetwork: (revision) => this.network.settle(revision),
      confirmDeadline: () => ctx.waitUntil(this.deadline.confirm()),
      schedulingMs,
      now,
    });
    const silence = (hostId: string) => places.silence(hostId);
    this.containerWatch = new ContainerWatch({
      store,
      lifecycle,
      timers,
      watch,
      host,
      silence,
      hostLostAfterMs,
      now,
    });
    const unpublish = (sandboxId: string) => unpublishSandbox(db, sandboxId);
    this.retention = new Retention({
      storage: ctx.storage,
      store,
      lifecycle,
      timers,
      outbox,
      unpublish,
      keptMs,
      now,
    });
    this.probe = new Probe(this.lifecycle, this.timers, open, now);
    this.operations = new Operations(this.lifecycle, this.host, this.watch);
    const atEnd = new ProcessesAtEnd(this.store, this.lifecycle, this.host);
    this.snapshots = new Snapshots({
      lifecycle,
      host,
      timers,
      jobs: new SnapshotJobs(ctx.storage),
      shelf,
      waitUntil: (work) => ctx.waitUntil(work),
      now,
    });
    const keep = () => this.snapshots.finishAtEnd();
    const release = (record: SandboxRecord) => places.release(record);
    this.cleanup = new Cleanup(this.lifecycle, this.timers, open, atEnd, keep, release, now);
    this.processes = new Processes(this.store, this.lifecycle, this.host, atEnd, () => this.watch.check(), now);
    this.output = new ProcessOutput(this.processes, this.lifecycle, this.host, now);
    this.attachments = new Attachments(sockets, this.processes, this.lifecycle, this.host);
    const bridge = new Bridge(sockets);
    this.execs = new ExecSockets(sockets, bridge, this.attachments, this.processes, this.timers, now);
    this.socketEvents = new SocketEvents(
      sockets,
      bridge,
      this.execs,
      this.processes,
      this.operations,
      this.lifecycle,
      this.timers,
      now,
    );
    this.tokens = new TunnelTokens(env.SIGNING_SECRET, now);
    this.#resumeIdleTime();
    this.#armWhatIsMissing();
    // What ran in the container beside the object goes on without it: it is taken up again.
    if (this.containerWatch.isBeside) ctx.waitUntil(this.containerWatch.check());
  }

  /** Sandboxes from before there were these timers. */
  #armWhatIsMissing(): void {
    if (this.timers.dueAt("retention") === undefined) this.retention.arm();
    if (this.timers.dueAt("container") === undefined) this.containerWatch.arm();
  }

  /** Sockets that went down with the object they were attached to have told nobody: their sandbox may idle again. */
  #resumeIdleTime(): void {
    const { record } = this.store;
    if (record && hasStarted(record.state) && this.timers.dueAt("idle") === undefined) this.lifecycle.touch();
  }
}
