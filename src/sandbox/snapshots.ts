import { hostIdOf, type Backend } from "../backends/backend.ts";
import type { ImageOutcome, ImageRow } from "../catalog/images.ts";
import { ApiError, asApiError } from "../contract/errors.ts";
import { FAILED_TTL_S, SNAPSHOT_TTL_S } from "../contract/image.ts";
import { isLive } from "../contract/sandbox.ts";
import type { HostLink } from "./host-link.ts";
import { endedError, type Lifecycle } from "./lifecycle.ts";
import type { SnapshotRequest } from "./rpc.ts";
import type { SnapshotJob, SnapshotJobs } from "./snapshot-jobs.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

/** How long one whose host is away is tried again. */
const GIVE_UP_MS = 600_000;
/** Of the one at the end, which waits for its host as the cleanup does. */
const GIVE_UP_AT_END_MS = 86_400_000;
const RETRY_MS = 2_000;
/** After so long a snapshot is looked after again: this object may have been lost meanwhile. */
const RESUME_MS = 5_000;

/** What snapshots need of the catalog and the registry. */
export interface SnapshotShelf {
  /** Adds a pending image. Answers the one that is there. */
  add(row: ImageRow): Promise<ImageRow>;
  settle(imageId: string, outcome: ImageOutcome): Promise<void>;
  find(environment: string, imageId: string): Promise<ImageRow | undefined>;
  /** Removes what the registry has of it. */
  discard(environment: string, imageId: string): Promise<void>;
  /** Where a host stores it, and the grant to do so. */
  target(environment: string, imageId: string): Promise<{ repository: string; tag: string; token: string }>;
  /** What the registry has of it. */
  stored(environment: string, imageId: string): Promise<Pick<ImageRow, "digest" | "runtime"> & { size: number }>;
}

export interface SnapshotsParts {
  lifecycle: Lifecycle;
  host: HostLink;
  timers: Timers;
  jobs: SnapshotJobs;
  shelf: SnapshotShelf;
  waitUntil: (work: Promise<unknown>) => void;
  now: () => number;
}

/**
 * Makes snapshots: each is a job that is written down before it begins, and done when the catalog knows what became of it. An
 * object that is lost in the middle takes it up again; one id is one snapshot, however often it is asked for.
 */
export class Snapshots {
  readonly #parts: SnapshotsParts;
  readonly #underWay = new Map<string, Promise<ImageRow>>();

  constructor(parts: SnapshotsParts) {
    this.#parts = parts;
  }

  /** Makes one. Answers when it is made, and throws what it failed of; `isAsync`: answers once the catalog has it. */
  async take({ imageId, name, ttl }: SnapshotRequest, isAsync: boolean): Promise<ImageRow> {
    const { jobs, shelf, lifecycle, waitUntil, now } = this.#parts;
    const record = lifecycle.record!;
    if (!isLive(record.state)) {
      // One that was made before its sandbox ended is still what was asked for.
      const made = await shelf.find(record.environment, imageId);
      if (made) return made;
      throw endedError(record);
    }
    const there = isAsync && this.#underWay.has(imageId) && (await shelf.find(record.environment, imageId));
    if (there) return there;
    const job = jobs.find(imageId) ?? { imageId, name, ttl, begunAt: now(), isAtEnd: false, isAdded: false };
    jobs.save(job);
    const added = Promise.withResolvers<ImageRow>();
    const made = this.#run(job, added.resolve);
    if (!isAsync) return made;
    waitUntil(made.catch(() => undefined));
    return Promise.race([added.promise, made]);
  }

  /** The sandbox has ended in a way that its filesystem is kept of: from here on that is a job. */
  beginAtEnd(imageId: string): void {
    const begunAt = this.#parts.now();
    this.#parts.jobs.save({ imageId, ttl: SNAPSHOT_TTL_S, begunAt, isAtEnd: true, isAdded: false });
  }

  /** True while the filesystem of the ended sandbox is still to be kept: its container is to stay. */
  get isKeepingAtEnd(): boolean {
    return this.#parts.jobs.all().some(({ isAtEnd }) => isAtEnd);
  }

  /** Keeps the filesystem of the ended sandbox, where that was asked for. Throws while its host is away: nothing may be removed there yet. */
  async finishAtEnd(): Promise<void> {
    const { jobs } = this.#parts;
    const job = jobs.all().find(({ isAtEnd }) => isAtEnd);
    if (!job) return;
    await this.#run(job).catch((error: unknown) => {
      if (jobs.find(job.imageId)) throw error;
    });
  }

  /** The timer: takes up what this object was at when it was lost. */
  resume(): void {
    for (const job of this.#parts.jobs.all()) {
      if (!job.isAtEnd) this.#parts.waitUntil(this.#run(job).catch(() => undefined));
    }
    this.#arm();
  }

  /** `added` is told once the catalog has it. */
  #run(job: SnapshotJob, added: (image: ImageRow) => void = () => undefined): Promise<ImageRow> {
    const { imageId } = job;
    const running =
      this.#underWay.get(imageId) ??
      this.#make(job, added).finally(() => {
        this.#underWay.delete(imageId);
        this.#arm();
      });
    this.#underWay.set(imageId, running);
    this.#arm();
    return running;
  }

  async #make(job: SnapshotJob, added: (image: ImageRow) => void): Promise<ImageRow> {
    const { jobs, shelf, now } = this.#parts;
    const { imageId } = job;
    const before = await this.#added(job);
    if (!before) return this.#wasDeleted(imageId);
    added(before);
    // This object may have been lost before it could note that all is done.
    if (before.status !== "pending") {
      jobs.remove(imageId);
      return before;
    }
    let failure: ApiError | undefined;
    let outcome: ImageOutcome;
    try {
      outcome = { status: "ready", ...(await this.#attempts(job)) };
    } catch (error) {
      failure = asApiError(error);
      // Not known to be over: the timer takes it up again.
      if (!failure || (job.isAtEnd && this.#isWaitedFor(job, failure))) throw error;
      outcome = { status: "failed", error: failure.message, expiresAt: now() + FAILED_TTL_S * 1000 };
    }
    await shelf.settle(imageId, outcome);
    const image = await shelf.find(this.#environment, imageId);
    if (!image) return this.#wasDeleted(imageId);
    jobs.remove(imageId);
    if (failure) throw failure;
    return image;
  }

  /** The catalog's row, which is added once only: one that is gone afterwards was deleted. */
  async #added(job: SnapshotJob): Promise<ImageRow | undefined> {
    const { jobs, shelf, lifecycle } = this.#parts;
    if (job.isAdded) return shelf.find(this.#environment, job.imageId);
    const image = await shelf.add(pendingRow(lifecycle.record!, job));
    jobs.save({ ...job, isAdded: true });
    return image;
  }

  async #wasDeleted(imageId: string): Promise<never> {
    await this.#parts.shelf.discard(this.#environment, imageId);
    this.#parts.jobs.remove(imageId);
    throw new ApiError("image_not_found", { detail: "The image was deleted while it was made." });
  }

  get #environment(): string {
    return this.#parts.lifecycle.record!.environment;
  }

  async #attempts(job: SnapshotJob) {
    for (;;) {
      try {
        return await this.#attempt(job);
      } catch (error) {
        const known = asApiError(error);
        // It may have been stored before the sandbox ended, and only the catalog not have heard of it.
        if (known?.code === "sandbox_ended") return await this.#storedBefore(job, error);
        if (job.isAtEnd || !known || !this.#isWaitedFor(job, known)) throw error;
        await this.#parts.host.relocate().catch(() => undefined);
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async #storedBefore({ imageId }: SnapshotJob, ended: unknown) {
    const { environment, placement } = this.#parts.lifecycle.record!;
    const stored = await this.#parts.shelf.stored(environment, imageId).catch(() => undefined);
    if (!stored) throw ended;
    return { ...stored, hostId: hostIdOf(placement) ?? null, snapshotId: null };
  }

  /** Of a sandbox that has ended there is nothing but what its host has kept: that it cannot be stored now does not mean that it is lost. */
  #isWaitedFor(job: SnapshotJob, { code }: ApiError): boolean {
    const giveUpMs = job.isAtEnd ? GIVE_UP_AT_END_MS : GIVE_UP_MS;
    const isPassing = code === "backend_unavailable" || (job.isAtEnd && code === "image_not_stored");
    return isPassing && this.#parts.now() < job.begunAt + giveUpMs;
  }

  async #attempt({
    imageId,
    isAtEnd,
  }: SnapshotJob): Promise<Omit<Extract<ImageOutcome, { status: "ready" }>, "status">> {
    const { host, shelf } = this.#parts;
    const backend: Backend = isAtEnd ? host.open() : await host.running();
    const record = this.#parts.lifecycle.record!;
    const hostId = hostIdOf(record.placement) ?? null;
    if (hostId === null) {
      const { size, snapshotId = null } = await backend.snapshot({ imageId, stop: isAtEnd });
      return { size, snapshotId, hostId, runtime: null, digest: null };
    }
    const target = await shelf.target(record.environment, imageId);
    await backend.snapshot({ imageId, stop: isAtEnd, target });
    return { ...(await shelf.stored(record.environment, imageId)), hostId, snapshotId: null };
  }

  #arm(): void {
    const { jobs, timers, now } = this.#parts;
    // The one at the end is the cleanup's to look after.
    if (jobs.all().every(({ isAtEnd }) => isAtEnd)) return timers.clear("snapshot");
    timers.set("snapshot", now() + RESUME_MS);
  }
}

function pendingRow(record: SandboxRecord, { imageId, name, ttl, begunAt }: SnapshotJob): ImageRow {
  return {
    imageId,
    environment: record.environment,
    sandboxId: record.sandboxId,
    name: name ?? null,
    status: "pending",
    error: null,
    parent: record.image,
    backend: record.backend,
    runtime: null,
    hostId: null,
    snapshotId: null,
    digest: null,
    size: null,
    createdAt: begunAt,
    expiresAt: ttl === null ? null : begunAt + ttl * 1000,
  };
}
