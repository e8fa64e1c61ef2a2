import { mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { ApiError } from "../../contract/errors.ts";
import type { VolumeCommit, VolumeMount, VolumeReload } from "../../contract/volume-mount.ts";
import { StartFailure, type Bind } from "../runtime.ts";
import type { Start } from "../start-files.ts";
import { settlesWithin, unavailable } from "../time-limit.ts";
import { BackgroundCommits } from "./background.ts";
import { ChunkCache } from "./cache.ts";
import { cacheBytesFor } from "./cache-size.ts";
import { SyncError } from "./client.ts";
import { storeLast } from "./last-commit.ts";
import { Mount, type Shared } from "./mount.ts";
import { NotStored, notStored } from "./not-stored.ts";

/** How long those who wait for the end of a sandbox wait for what it wrote last. */
export const LAST_COMMIT_MS = 10_000;

export interface VolumesOptions {
  /** Where mounts and the cache of chunks lie. */
  dir: string;
  /** Left out: no sandbox can mount anything. */
  controlPlaneUrl?: string | undefined;
  /** Left out: what fits the disk. */
  cacheBytes?: number | undefined;
  /** How long a call that fails is tried again. */
  patienceMs?: number | undefined;
  /** How often a mount that is quick to look through is committed. */
  backgroundMs?: number | undefined;
}

interface Mounted {
  mounts: Mount[];
  background: BackgroundCommits[];
}

/** The volumes that the sandboxes of this machine have mounted. */
export class Volumes {
  readonly #options: VolumesOptions;
  readonly #folder: string;
  readonly #mounted = new Map<string, Mounted>();
  readonly #ending = new Map<string, Promise<void>>();
  readonly #closed = new AbortController();
  #shared: Shared | undefined;

  constructor(options: VolumesOptions) {
    this.#options = options;
    this.#folder = `${options.dir}/mounts`;
  }

  /** Takes over what an earlier run of this daemon left: the mounts of these starts go on, those of others are stored and removed. */
  recover(live: readonly Start[]): void {
    const names = new Set(live.map(nameOf));
    for (const name of namesIn(this.#folder)) {
      const mounts = this.#open(name);
      if (names.has(name)) this.#use(name, mounts);
      else void this.#store(name, mounts);
    }
  }

  /** What is to be done once the container of this start is gone; undefined where it has none. */
  lastCommitOf(start: Start): (() => Promise<void>) | undefined {
    return this.#mounted.has(nameOf(start)) ? () => this.end(start) : undefined;
  }

  /** Makes the mounts of a start, as they are committed. Throws {@link StartFailure} where that can never be, else `backend_unavailable`. */
  async prepare(start: Start, specs: readonly VolumeMount[]): Promise<Bind[]> {
    const name = nameOf(start);
    const shared = this.#share();
    if (!shared) throw new StartFailure("This host has no control plane that has volumes.");
    const ending = this.#ending.get(name);
    if (ending && !(await settlesWithin(ending, LAST_COMMIT_MS)))
      throw new ApiError("backend_unavailable", {
        detail: "What the sandbox wrote to its volumes last is not stored yet.",
        retryAfter: 5,
      });
    rmSync(`${this.#folder}/${name}`, { recursive: true, force: true });
    const made = await Promise.allSettled(
      specs.map((spec, index) => Mount.create(`${this.#folder}/${name}/${index}`, spec, shared)),
    );
    const mounts = made.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    const failed = made.findIndex(({ status }) => status === "rejected");
    if (failed < 0) return this.#use(name, mounts);
    for (const mount of mounts) mount.close();
    rmSync(`${this.#folder}/${name}`, { recursive: true, force: true });
    throw whyNot(specs[failed]!, (made[failed] as PromiseRejectedResult).reason);
  }

  /** Stores what was written to the mounts at these paths, or to all. Throws `volume_not_stored`. */
  async commit(start: Start, paths?: readonly string[]): Promise<VolumeCommit[]> {
    const writable = this.#at(start, paths).filter(({ spec }) => !spec.read_only);
    return all(writable.map((mount) => mount.commit()));
  }

  /** Brings the mounts at these paths, or all, to what is committed. Throws `volume_not_stored`, and `backend_unavailable`. */
  async reload(start: Start, paths?: readonly string[]): Promise<VolumeReload[]> {
    return all(this.#at(start, paths).map((mount) => mount.reload()));
  }

  /** Its container is gone: what it wrote last is stored, and its mounts are removed. Waits for that, for a while. Never rejects. */
  async end(start: Start): Promise<void> {
    const name = nameOf(start);
    const mounted = this.#mounted.get(name);
    this.#mounted.delete(name);
    if (mounted) void this.#store(name, mounted.mounts, mounted.background);
    const ending = this.#ending.get(name);
    if (ending) await settlesWithin(ending, LAST_COMMIT_MS);
  }

  /** Leaves everything as it is, for the next daemon. */
  close(): void {
    this.#closed.abort();
    this.#shared?.cache.close();
    for (const { background } of this.#mounted.values()) for (const commits of background) commits.stop();
  }

  #use(name: string, mounts: Mount[]): Bind[] {
    const background = mounts.map((mount) => new BackgroundCommits(mount, this.#options.backgroundMs));
    this.#mounted.set(name, { mounts, background });
    return mounts.map(({ bind }) => bind);
  }

  #store(name: string, mounts: readonly Mount[], background: readonly BackgroundCommits[] = []): Promise<void> {
    for (const commits of background) commits.stop();
    const stored = Promise.all(mounts.map((mount) => storeLast(mount, this.#closed.signal))).then(() => {
      this.#ending.delete(name);
      removeIfEmpty(`${this.#folder}/${name}`);
    });
    this.#ending.set(name, stored);
    return stored;
  }

  #at(start: Start, paths: readonly string[] | undefined): Mount[] {
    const mounts = this.#mounted.get(nameOf(start))?.mounts ?? [];
    if (!paths) return mounts;
    return [...new Set(paths)].map((path) => {
      const mount = mounts.find(({ spec }) => spec.path === path);
      if (mount) return mount;
      throw new ApiError("invalid_request", {
        errors: [{ path: "paths", message: `no volume is mounted at ${path}` }],
      });
    });
  }

  #open(name: string): Mount[] {
    const shared = this.#share();
    return namesIn(`${this.#folder}/${name}`).flatMap((index) => {
      const folder = `${this.#folder}/${name}/${index}`;
      try {
        const mount = shared && Mount.open(folder, shared);
        if (mount) return [mount];
        // It was still being made: nobody has written to it.
        if (shared) rmSync(folder, { recursive: true, force: true });
      } catch (error) {
        console.error(`sandbar host: the volume in ${folder} is out of reach:`, String(error));
      }
      return [];
    });
  }

  /** Made when somebody needs it. */
  #share(): Shared | undefined {
    const { dir, controlPlaneUrl, cacheBytes, patienceMs } = this.#options;
    if (controlPlaneUrl === undefined) return undefined;
    if (!this.#shared) {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      const cache = new ChunkCache(`${dir}/cache`, cacheBytes ?? cacheBytesFor(dir));
      this.#shared = { controlPlaneUrl, cache, patienceMs };
    }
    return this.#shared;
  }
}

const nameOf = ({ sandboxId, generation }: Start) => `${sandboxId}.${generation}`;

/** What all of them give; else the error of those that were not stored, or of the first. */
async function all<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(work);
  const failures = settled.flatMap((one) => (one.status === "rejected" ? [one.reason as unknown] : []));
  const unstored = failures.filter((error) => error instanceof NotStored);
  if (unstored.length > 0) throw notStored(unstored);
  if (failures.length > 0) {
    const [error] = failures;
    throw unavailable(`A volume cannot be brought up to date: ${error instanceof Error ? error.message : "?"}.`, error);
  }
  return settled.map((one) => (one as PromiseFulfilledResult<T>).value);
}

function whyNot({ volume_id: volumeId, path }: VolumeMount, error: unknown): Error {
  if (error instanceof SyncError && error.status === 404)
    return new StartFailure(`There is no volume ${volumeId} to be mounted at ${path}.`);
  return unavailable(`The volume ${volumeId} cannot be mounted at ${path} now.`, error);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Something of it is to be stored yet.
  }
}
