import { ApiError } from "../contract/errors.ts";
import type { ContainerExit, ContainerStatus, Deadline, StartResult, StartSpec } from "../contract/host-protocol.ts";
import { KILLED_RETURNCODE } from "../contract/process.ts";
import type { Use } from "../process/activity.ts";
import { endedEntry, exitOf, hasEnded, removeEnded } from "./container-end.ts";
import { newEntry, reported, statusOf, type Entry, type ReportedContainers } from "./container-entry.ts";
import { DeletedGenerations } from "./deleted-generations.ts";
import { failedStart, launch } from "./launch.ts";
import type { LogArchive } from "./log-archive.ts";
import type { ProcessTable } from "./processes.ts";
import type { ContainersOptions } from "./containers-options.ts";
import { holdUntilGone, inTime, keepAtDeadline, release, releaseSoon, STOP_TIMEOUT_MS, whenStored } from "./release.ts";
import type { Container } from "./runtime.ts";
import type { Start } from "./start-files.ts";
import { callAt, settlesWithin } from "./time-limit.ts";

/** How long the end of a container, and the fact that it was deleted, is remembered. */
const KEEP_ENDED_MS = 3_600_000;

/** The one owner of all containers on this machine. Decides which start counts, and ends each at its deadline. */
export class Containers {
  readonly #runtime: ContainersOptions["runtime"];
  readonly #options: ContainersOptions;
  readonly #logs: LogArchive;
  readonly #entries = new Map<string, Entry>();
  readonly #deleted = new DeletedGenerations(KEEP_ENDED_MS);

  constructor(options: ContainersOptions) {
    this.#runtime = options.runtime;
    this.#options = options;
    this.#logs = options.logs;
  }

  /**
   * Starts a container, or finds the one of this generation. Replaces an older generation; throws
   * `conflict` when a newer one is here, `sandbox_ended` when this one was deleted.
   */
  async start(spec: StartSpec): Promise<StartResult> {
    const { sandbox_id: sandboxId, generation } = spec;
    if (generation <= this.#deleted.newest(sandboxId)) throw new ApiError("sandbox_ended");
    const present = this.#entries.get(sandboxId);
    if (present && present.generation > generation) {
      throw new ApiError("conflict", { detail: `Generation ${present.generation} of this sandbox is here.` });
    }
    if (present?.generation === generation) {
      const { result } = await present.started;
      if (present.isDeleted) throw new ApiError("sandbox_ended");
      return result.kind === "launched" ? { ...result, kind: "adopted" } : result;
    }
    const entry = newEntry(sandboxId, generation);
    this.#entries.set(sandboxId, entry);
    entry.started = this.#launch(entry, spec, present);
    // A failed start leaves nothing; its error goes to who waits for it.
    entry.started.catch(() => {});
    const { result } = await entry.started;
    if (entry.isDeleted) throw new ApiError("sandbox_ended");
    return result;
  }

  /** Takes over what an earlier run of this daemon left. */
  async recover(): Promise<void> {
    const left = await this.#runtime.recover();
    this.#options.volumes.recover(left);
    this.#recallEnds();
    const found = left.filter(
      (container) => !removeEnded(this.#entries.get(container.sandboxId), container, this.#options),
    );
    const unconfined = new Set(await this.#options.networks.recover(found));
    for (const container of found.toSorted((a, b) => a.generation - b.generation)) {
      const older = this.#entries.get(container.sandboxId);
      const entry = newEntry(container.sandboxId, container.generation);
      holdUntilGone(entry, container, this.#options);
      this.#entries.set(container.sandboxId, entry);
      const table = this.#logs.open(entry.sandboxId, entry.generation, entry.activity);
      await table.recover(container);
      entry.started = Promise.resolve({ result: this.#adopt(entry, container, table), container });
      if (older) releaseSoon(older);
      // What it could reach is more than it may.
      if (unconfined.has(container)) releaseSoon(entry);
    }
    this.#options.deadlines.sweep(found);
    await this.#logs.recover(new Set(found.map(({ sandboxId, generation }) => `${sandboxId}.${generation}`)));
  }

  status(sandboxId: string): ContainerStatus {
    return statusOf(this.#entries.get(sandboxId));
  }

  list(): ReportedContainers {
    return reported(this.#entries.values(), this.#options.gpus);
  }

  /** The container, waiting for a start in flight. Throws `sandbox_ended` when it does not run, or is of another generation. */
  async running(sandboxId: string, generation?: number): Promise<Container> {
    const entry = this.#entries.get(sandboxId);
    if (!entry || entry.generation !== (generation ?? entry.generation)) throw new ApiError("sandbox_ended");
    const container = entry.container ?? (await entry.started).container;
    if (!container || hasEnded(entry) || entry.isPastDeadline) throw new ApiError("sandbox_ended");
    return container;
  }

  /** Does something with the running container that counts as its use until it is done, or quiet for so long. */
  async use<T>(sandboxId: string, work: (container: Container, use: Use) => Promise<T>, quietMs?: number): Promise<T> {
    const container = await this.running(sandboxId);
    const use = this.#entries.get(sandboxId)!.activity.begin(quietMs);
    try {
      return await work(container, use);
    } finally {
      use.end();
    }
  }

  isRunning(sandboxId: string): boolean {
    const entry = this.#entries.get(sandboxId);
    return entry !== undefined && !hasEnded(entry);
  }

  /** The processes of a container, also for a while after its end. Throws `sandbox_ended` when nothing is known of it. */
  async processes(sandboxId: string): Promise<ProcessTable> {
    const entry = this.#entries.get(sandboxId);
    if (entry && !entry.processes) await entry.started;
    const table = entry?.processes ?? this.#logs.get(sandboxId);
    if (!table) throw new ApiError("sandbox_ended");
    return table;
  }

  /**
   * Ends the container and forgets it, also one whose start is in flight. Idempotent. With `generation`,
   * leaves a newer one alone.
   */
  async stop(sandboxId: string, generation?: number): Promise<void> {
    const entry = this.#entries.get(sandboxId);
    const deleted = generation ?? entry?.generation;
    if (deleted !== undefined) this.#deleted.add(sandboxId, deleted);
    if (!entry || (generation !== undefined && entry.generation > generation)) return;
    entry.isDeleted = true;
    await inTime(release(entry).then(() => this.#forget(entry)));
  }

  /** Moves the time at which the container is ended. Throws `sandbox_ended` when it does not run. */
  async setDeadline(sandboxId: string, { generation, revision, remaining_ms }: Deadline): Promise<void> {
    const container = await this.running(sandboxId, generation);
    const deadlineAt = Date.now() + remaining_ms;
    if (this.#options.deadlines.move(container, revision, deadlineAt))
      this.#endAt(this.#entries.get(sandboxId)!, container, deadlineAt);
  }

  /** Ends all of them and removes what their processes said. */
  async stopAll(): Promise<void> {
    await Promise.allSettled([...this.#entries.keys()].map((sandboxId) => this.stop(sandboxId)));
    this.#logs.clear();
  }

  /** Cancels all timers; containers stay as they are, for the next daemon. */
  close(): void {
    for (const entry of this.#entries.values()) entry.cancelTimer();
    this.#options.networks.close();
    this.#logs.close();
  }

  async #launch(entry: Entry, spec: StartSpec, older: Entry | undefined) {
    try {
      const container = await launch({ ...this.#options, spec, entry, older });
      entry.container = container;
      if (older) this.#forgetFiles(older);
      if (entry.isDeleted) throw new ApiError("sandbox_ended");
      const table = this.#logs.open(entry.sandboxId, entry.generation, entry.activity);
      table.start(container);
      return { result: this.#adopt(entry, container, table, "launched"), container };
    } catch (error) {
      if (entry.container && entry.isDeleted) throw error;
      if (entry.container) releaseSoon(entry);
      this.#forget(entry);
      return { result: failedStart(error), container: undefined };
    }
  }

  /** What ended before this daemon began, for whoever has not asked for it yet. */
  #recallEnds(): void {
    for (const end of this.#options.ends.all()) {
      const entry = endedEntry(end);
      entry.cancelTimer = callAt(end.endedAt + KEEP_ENDED_MS, () => this.#forget(entry));
      this.#entries.set(end.sandboxId, entry);
    }
  }

  #adopt(
    entry: Entry,
    container: Container,
    table: ProcessTable,
    kind: "launched" | "adopted" = "adopted",
  ): StartResult {
    entry.container = container;
    entry.processes = table;
    this.#endAt(entry, container, this.#options.deadlines.movedTo(container) ?? container.deadlineAt);
    void container.exited.then((exit) => this.#onExit(entry, exit));
    return { kind, published_ports: container.publishedPorts };
  }

  #endAt(entry: Entry, container: Container, deadlineAt: number): void {
    entry.cancelTimer();
    entry.cancelTimer = callAt(deadlineAt, () => void this.#endAtDeadline(entry, container));
  }

  async #endAtDeadline(entry: Entry, container: Container): Promise<void> {
    if (entry.exit) return;
    entry.isPastDeadline = true;
    await keepAtDeadline(this.#options.snapshots, container);
    releaseSoon(entry);
    if (!(await settlesWithin(container.exited, STOP_TIMEOUT_MS)))
      this.#onExit(entry, { returncode: KILLED_RETURNCODE, oom: false });
  }

  #onExit(entry: Entry, how: Omit<ContainerExit, "deadline">): void {
    if (entry.exit || entry.isEnding) return;
    const exit = exitOf(entry, how);
    const told = () => {
      entry.exit = exit;
      if (!entry.isDeleted) this.#options.onExit?.();
    };
    entry.cancelTimer();
    void entry.processes?.containerEnded();
    if (entry.isDeleted) return told();
    // Before the container goes, and what it says of its end with it.
    this.#options.ends.keep(entry, exit);
    if (entry.lastCommit) void whenStored(entry, told);
    else told();
    releaseSoon(entry);
    entry.cancelTimer = callAt(Date.now() + KEEP_ENDED_MS, () => this.#forget(entry));
  }

  #forget(entry: Entry): void {
    entry.cancelTimer();
    this.#forgetFiles(entry);
    if (entry.processes) this.#logs.keep(entry.sandboxId, entry.processes);
    if (this.#entries.get(entry.sandboxId) === entry) this.#entries.delete(entry.sandboxId);
  }

  #forgetFiles(start: Start): void {
    this.#options.deadlines.forget(start);
    this.#options.ends.forget(start);
  }
}
