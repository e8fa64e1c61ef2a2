import { DurableObject } from "cloudflare:workers";
import { VolumeCatalog } from "../catalog/volumes.ts";
import type { ByteRange } from "../contract/byte-range.ts";
import type { FileListRequest } from "../contract/file.ts";
import type { CommitPart, VolumeGrant } from "../contract/volume-sync.ts";
import { graceOf, type GraceVariables } from "../registry/grace.ts";
import { replyWith, type Replies, type Reply } from "../rpc/api-reply.ts";
import { Confirmation } from "./confirmation.ts";
import { PackStore } from "./pack-store.ts";
import { VolumeParts } from "./parts.ts";
import { VolumeRecord, type VolumeRow } from "./record.ts";
import { requireReadable } from "./below-prefix.ts";
import type { ChangesRequest, GrantScope, VolumeRpc, VolumeScope } from "./rpc.ts";
import { requirePlain } from "./staging.ts";
import { sweep } from "./sweep.ts";
import { takePart } from "./take-part.ts";
import { destroyStep } from "./destroy.ts";

export interface VolumeEnv extends GraceVariables {
  DB: D1Database;
  SNAPSHOTS: R2Bucket;
}

const MORE_AFTER_MS = 1000;

/**
 * One volume: the one owner of what is in it, so that a commit is made of what was checked for it, whatever others commit and
 * whatever is swept. The bytes of packs go past it. Its name is the volume's id.
 */
export class Volume<Env extends VolumeEnv = VolumeEnv> extends DurableObject<Env> implements Replies<VolumeRpc> {
  readonly #record: VolumeRecord;
  readonly #confirmation: Confirmation;
  #made: VolumeParts | undefined;
  /** Whether the alarm is known to be set. */
  #isArmed = false;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#record = new VolumeRecord(ctx.storage.sql);
    this.#confirmation = new Confirmation(this.#record, new VolumeCatalog(env.DB));
  }

  create(environment: string, volumeId: string): Promise<Reply<void>> {
    return replyWith(async () => this.#record.create(environment, volumeId));
  }

  destroy({ environment }: VolumeScope): Promise<Reply<void>> {
    return replyWith(async () => {
      const row = this.#record.find();
      if (row?.environment !== environment || row.destroyed_at !== null) return;
      this.#record.set({ destroyed_at: Date.now() });
      await this.ctx.storage.setAlarm(Date.now());
    });
  }

  confirmLater({ environment }: VolumeScope, afterMs: number): Promise<Reply<void>> {
    return replyWith(async () => {
      const row = this.#record.find();
      if (row?.environment !== environment || row.destroyed_at !== null) return;
      this.#confirmation.expect(afterMs);
      await this.#armConfirmation();
    });
  }

  contents({ environment }: VolumeScope) {
    return replyWith(async () => this.#record.contents(environment));
  }

  admit(scope: GrantScope, access: VolumeGrant["access"]) {
    return this.#there(scope, async () => {
      if (access === "write") await this.#stayActive();
    });
  }

  changes(scope: GrantScope, request: ChangesRequest) {
    return this.#there(scope, async ({ changes }, row) => {
      requireReadable(scope, request.prefix);
      return changes.page(row, { ...request, prefix: request.prefix ?? scope.prefix });
    });
  }

  missing(scope: GrantScope, hashes: string[]) {
    return this.#there(scope, async ({ chunks }) => chunks.missing(hashes));
  }

  locate(scope: GrantScope, hashes: string[]) {
    return this.#there(scope, async ({ chunks }) => chunks.locate(hashes));
  }

  stagePart(scope: GrantScope, commitId: string, number: number, part: CommitPart) {
    return this.#there(scope, async (parts) => {
      requirePlain(scope, part);
      await this.#stayActive();
      await takePart(parts, scope, { commitId, number, part });
    });
  }

  commit(scope: GrantScope, commitId: string, count: number) {
    return this.#there(scope, async ({ commits, transaction }, { version }) => {
      const made = transaction(() => commits.make(commitId, count, version));
      await this.#stayActive();
      return made;
    });
  }

  stat(scope: VolumeScope, path: string) {
    return this.#there(scope, async ({ files }, row) => files.stat(row, path));
  }

  list(scope: VolumeScope, path: string, request: FileListRequest) {
    return this.#there(scope, async ({ files }, row) => files.list(row, path, request));
  }

  content(scope: VolumeScope, path: string, range: ByteRange | undefined) {
    return this.#there(scope, async ({ files }, row) => files.content(row, path, range));
  }

  override async alarm(): Promise<void> {
    this.#isArmed = false;
    await this.#confirmation.run();
    const row = this.#record.find();
    if (!row) return;
    await this.#sweep(row);
    await this.#armConfirmation();
  }

  async #sweep(row: VolumeRow): Promise<void> {
    const parts = this.#parts(row);
    if (row.destroyed_at !== null) return this.#goOn(await destroyStep(parts, row.destroyed_at));
    const outcome = await sweep(parts);
    const { keptMs, sweptEveryMs } = parts.grace;
    if (outcome === "unfinished") return this.#goOn(MORE_AFTER_MS);
    // Whatever was done last has been swept for once its grace is over.
    const isQuiet = row.active_at + 2 * (keptMs + sweptEveryMs) < Date.now();
    if (outcome === "failed" || !isQuiet || parts.garbage.holdsAny()) await this.#arm();
  }

  /** Runs on a volume that is there for who asks. */
  #there<T>({ environment }: VolumeScope, run: (parts: VolumeParts, row: VolumeRow) => Promise<T>): Promise<Reply<T>> {
    return replyWith(async () => {
      const row = this.#record.require(environment);
      return run(this.#parts(row), row);
    });
  }

  #parts({ volume_id: volumeId }: VolumeRow): VolumeParts {
    const { ctx, env } = this;
    this.#made ??= new VolumeParts(ctx.storage, this.#record, new PackStore(env.SNAPSHOTS, volumeId), graceOf(env));
    return this.#made;
  }

  /** There may be something to sweep from now on. */
  async #stayActive(): Promise<void> {
    const { touchedEveryMs } = this.#made!.grace;
    const now = Date.now();
    if (this.#record.find()!.active_at + touchedEveryMs <= now) this.#record.set({ active_at: now });
    await this.#arm();
  }

  async #arm(): Promise<void> {
    if (this.#isArmed) return;
    this.#isArmed = true;
    await this.#goOn(this.#made!.grace.sweptEveryMs);
  }

  async #armConfirmation(): Promise<void> {
    const { dueAt } = this.#confirmation;
    const { storage } = this.ctx;
    if (dueAt !== undefined && dueAt < ((await storage.getAlarm()) ?? Infinity)) await storage.setAlarm(dueAt);
  }

  async #goOn(afterMs: number | undefined): Promise<void> {
    const { storage } = this.ctx;
    if (afterMs === undefined) return;
    const dueAt = Date.now() + afterMs;
    // One that lies further ahead, as that of a confirmation, would keep all sweeps waiting.
    if (dueAt < ((await storage.getAlarm()) ?? Infinity)) await storage.setAlarm(dueAt);
  }
}
