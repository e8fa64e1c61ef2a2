import { chmodSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { z } from "zod";
import {
  VolumeMountSchema,
  type VolumeCommit,
  type VolumeMount,
  type VolumeReload,
} from "../../contract/volume-mount.ts";
import type { Bind } from "../runtime.ts";
import { writeWhole } from "../whole-file.ts";
import { Baseline } from "./baseline.ts";
import type { ChunkCache } from "./cache.ts";
import { SyncClient } from "./client.ts";
import { commit, CommitFailure, type CommitOutcome } from "./commit.ts";
import type { MountParts } from "./mount-parts.ts";
import { NotStored } from "./not-stored.ts";
import { readPending } from "./pending.ts";
import { reload } from "./reload.ts";
import { removeTree } from "./remove-tree.ts";
import { Tree } from "./tree.ts";

/** What all mounts of this machine share. */
export interface Shared {
  controlPlaneUrl: string;
  cache: ChunkCache;
  /** How long a call that fails is tried again. */
  patienceMs?: number | undefined;
}

const RecordSchema = z.object({ mount: VolumeMountSchema });

/**
 * One volume as one start of a sandbox has it mounted: in `data` what the sandbox sees, and beside it what this daemon knows of it,
 * also for its next run. One thing is done with it at a time.
 */
export class Mount {
  readonly spec: VolumeMount;
  readonly folder: string;
  readonly #parts: MountParts;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #hasToldUnkept = false;

  private constructor(folder: string, spec: VolumeMount, { controlPlaneUrl, cache, patienceMs }: Shared) {
    this.folder = folder;
    this.spec = spec;
    const { sub_path: subPath } = spec;
    this.#parts = {
      tree: new Tree(`${folder}/data`),
      baseline: Baseline.open(`${folder}/baseline`),
      client: new SyncClient(controlPlaneUrl, spec.volume_id, spec.token, patienceMs),
      cache,
      incoming: `${folder}/incoming`,
      pendingPath: `${folder}/commit`,
      pending: readPending(`${folder}/commit`),
      subPath,
      inVolume: (path) => (subPath === undefined ? path : `${subPath}/${path}`),
    };
  }

  /** Makes one as the volume is now. Throws `SyncError`, and leaves nothing behind whenever it throws. */
  static async create(folder: string, spec: VolumeMount, shared: Shared): Promise<Mount> {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(`${folder}/data`, { recursive: true, mode: 0o700 });
    chmodSync(`${folder}/data`, 0o755);
    const mount = new Mount(folder, spec, shared);
    try {
      await reload(mount.#parts, true);
      writeWhole(`${folder}/mount.json`, JSON.stringify({ mount: spec }));
      return mount;
    } catch (error) {
      mount.close();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** One that an earlier run of this daemon made; undefined of one that it was still making. */
  static open(folder: string, shared: Shared): Mount | undefined {
    let text: string;
    try {
      text = readFileSync(`${folder}/mount.json`, "utf8");
    } catch {
      return undefined;
    }
    return new Mount(folder, RecordSchema.parse(JSON.parse(text)).mount, shared);
  }

  get bind(): Bind {
    return { source: `${this.folder}/data`, path: this.spec.path, readOnly: this.spec.read_only };
  }

  get isBusy(): boolean {
    return this.#waiting > 0;
  }

  /** Stores what has changed. Throws {@link NotStored}. */
  commit(): Promise<VolumeCommit> {
    return this.#inTurn(() => this.#commit());
  }

  /** The same while the sandbox does not ask for it: what it is just writing waits. How long it took to look, in milliseconds. */
  commitMeanwhile(): Promise<{ scanMs: number }> {
    return this.#inTurn(async () => {
      const outcome = await this.#stored(false);
      return { scanMs: outcome.scanMs };
    });
  }

  /** Brings it to what is committed. Throws {@link NotStored}, and `SyncError`. */
  reload(): Promise<VolumeReload> {
    return this.#inTurn(async () => {
      if (!this.spec.read_only) await this.#commit();
      const { client, baseline } = this.#parts;
      const before = client.receivedBytes;
      const { changedFiles } = await reload(this.#parts);
      return {
        ...this.#named,
        version: baseline.version,
        changed_files: changedFiles,
        downloaded_bytes: client.receivedBytes - before,
      };
    });
  }

  /** Removes it from this machine, once what is under way is done. */
  async remove(): Promise<void> {
    await this.#inTurn(async () => {
      this.close();
      await removeTree(this.folder);
    });
  }

  close(): void {
    this.#parts.tree.close();
  }

  async #commit(): Promise<VolumeCommit> {
    const { client, baseline } = this.#parts;
    const before = client.sentBytes;
    const { changedFiles, left } = await this.#stored(true);
    if (left) throw new NotStored(this.spec, left);
    return {
      ...this.#named,
      version: baseline.version,
      changed_files: changedFiles,
      uploaded_bytes: client.sentBytes - before,
    };
  }

  async #stored(isPatient: boolean): Promise<CommitOutcome> {
    try {
      const outcome = await commit(this.#parts, { isPatient });
      this.#tellUnkept(outcome.unkept);
      return outcome;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new NotStored(this.spec, error instanceof CommitFailure ? error.left : { why }, error);
    }
  }

  get #named() {
    return { path: this.spec.path, volume_id: this.spec.volume_id };
  }

  #tellUnkept(unkept: readonly string[]): void {
    if (unkept.length === 0 || this.#hasToldUnkept) return;
    this.#hasToldUnkept = true;
    const more = unkept.length > 1 ? ` and ${unkept.length - 1} others` : "";
    console.error(
      `sandbar host: ${this.spec.volume_id} keeps no sockets, FIFOs and devices, no names that are not UTF-8, and no paths that are too long: ` +
        `${JSON.stringify(unkept[0])}${more}`,
    );
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const turn = this.#last.then(work).finally(() => this.#waiting--);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
