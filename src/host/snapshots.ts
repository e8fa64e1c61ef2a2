import { ApiError, asApiError } from "../contract/errors.ts";
import type { ImageTarget, SnapshotSpec, SnapshotStatus } from "../contract/host-protocol.ts";
import { Joined } from "./joined.ts";
import type { Container, Runtime } from "./runtime.ts";
import type { UnaskedImages } from "./unasked-images.ts";
import { tooSlow, unavailable, withTimeLimit } from "./time-limit.ts";

const KEEP_TIMEOUT_MS = 30 * 60_000;
const PUSH_TIMEOUT_MS = 60 * 60_000;
/** How long the outcome is remembered, for whoever asks again. */
const REMEMBER_MS = 3_600_000;

/** What snapshots need of the containers of this machine. */
export interface SnapshotContainers {
  /** Does something with the running container that counts as its use. Throws `sandbox_ended`. */
  use<T>(sandboxId: string, work: (container: Container) => Promise<T>): Promise<T>;
  stop(sandboxId: string, generation: number): Promise<void>;
  isRunning(sandboxId: string): boolean;
}

/** What is none of ours may say more than "went wrong": the engine's own words, such as that a chain of layers is too long. */
function failed(error: unknown): unknown {
  if (asApiError(error)) return error;
  console.error("sandbar host: a snapshot failed:", error);
  const detail = `The filesystem could not be kept: ${error instanceof Error ? error.message : String(error)}`;
  return new ApiError("snapshot_failed", { detail, cause: error });
}

interface Job {
  done: Promise<Extract<SnapshotStatus, { kind: "done" }>>;
  hasFailed: boolean;
}

/**
 * Makes snapshots: keeps the filesystem on this machine, then stores it in the registry. One id is one snapshot, whoever asks for
 * it and however often: what is kept is not kept anew, and a push that failed begins where the registry has not got it all.
 */
export class Snapshots {
  readonly #runtime: Runtime;
  readonly #unasked: UnaskedImages;
  readonly #jobs = new Map<string, Job>();
  readonly #keeping = new Joined<{ size: number }>();

  constructor(runtime: Runtime, unasked: UnaskedImages) {
    this.#runtime = runtime;
    this.#unasked = unasked;
  }

  /** How far it is, at the latest after so many milliseconds. Throws what it failed of; asked again, it is tried again. */
  async take(
    containers: SnapshotContainers,
    sandboxId: string,
    imageId: string,
    spec: SnapshotSpec,
    waitMs: number,
  ): Promise<SnapshotStatus> {
    this.#unasked.asked(imageId);
    let job = this.#jobs.get(imageId);
    if (!job || job.hasFailed) {
      job = this.#begin(imageId, this.#make(containers, sandboxId, imageId, spec));
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<SnapshotStatus>((resolve) => {
      timer = setTimeout(() => resolve({ kind: "running" }), waitMs);
    });
    try {
      return await Promise.race([job.done, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Keeps the filesystem of a container that is to be ended at its deadline, where the control plane may not know of it yet. */
  keepUnasked(container: Container, imageId: string): Promise<{ size: number }> {
    this.#unasked.add(imageId);
    return this.keep(container, imageId);
  }

  /** The snapshots of this machine that the control plane may be told of. */
  async list(): Promise<string[]> {
    return this.#unasked.without(await this.#runtime.listImages());
  }

  /** Keeps the filesystem of a container on this machine, unless that has been done. */
  keep(container: Container, imageId: string): Promise<{ size: number }> {
    return this.#keeping.run(imageId, () => this.#keepOnce(container, imageId));
  }

  async #keepOnce(container: Container, imageId: string): Promise<{ size: number }> {
    if (await this.#has(imageId)) return { size: 0 };
    return withTimeLimit(container.snapshot(imageId), KEEP_TIMEOUT_MS, tooSlow("The snapshot"));
  }

  #begin(imageId: string, done: Job["done"]): Job {
    const job: Job = { done, hasFailed: false };
    this.#jobs.set(imageId, job);
    const forget = () => {
      setTimeout(() => {
        if (this.#jobs.get(imageId) === job) this.#jobs.delete(imageId);
      }, REMEMBER_MS).unref();
    };
    done.then(forget, () => {
      job.hasFailed = true;
      forget();
    });
    return job;
  }

  async #make(containers: SnapshotContainers, sandboxId: string, imageId: string, spec: SnapshotSpec): Job["done"] {
    const size = await this.#keepOrFind(containers, sandboxId, imageId, spec);
    if (spec.stop) await containers.stop(sandboxId, spec.generation);
    const uploaded = spec.target ? await this.#push(imageId, spec.target) : 0;
    return { kind: "done", size, uploaded_bytes: uploaded };
  }

  async #keepOrFind(
    containers: SnapshotContainers,
    sandboxId: string,
    imageId: string,
    { generation }: SnapshotSpec,
  ): Promise<number> {
    try {
      const kept = await containers.use(sandboxId, (container) => {
        if (container.generation !== generation) throw new ApiError("sandbox_ended");
        return this.keep(container, imageId).catch((error: unknown) => {
          throw containers.isRunning(sandboxId) ? failed(error) : error;
        });
      });
      return kept.size;
    } catch (error) {
      // It may have been kept before the container was ended, by an earlier attempt or at the deadline.
      await this.#keeping.get(imageId)?.catch(() => undefined);
      if (await this.#has(imageId)) return 0;
      throw error;
    }
  }

  /** Of an ended container every other error than one of ours says that all is over. */
  async #has(imageId: string): Promise<boolean> {
    try {
      return await this.#runtime.hasImage(imageId);
    } catch (error) {
      throw unavailable("Whether the snapshot is here cannot be told.", error);
    }
  }

  async #push(imageId: string, target: ImageTarget): Promise<number> {
    const pushing = this.#runtime.pushImage(imageId, target);
    return (await withTimeLimit(pushing, PUSH_TIMEOUT_MS, tooSlow("Storing the image"))).uploadedBytes;
  }
}
