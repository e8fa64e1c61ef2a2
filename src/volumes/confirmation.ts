import type { VolumeCatalog } from "../catalog/volumes.ts";
import type { VolumeRecord } from "./record.ts";

const RETRY_MS = 60_000;

/**
 * Whether the catalog has the volume, for those who make and delete it and may be lost in the middle: what it does not have nobody
 * finds, and so it goes.
 */
export class Confirmation {
  readonly #record: VolumeRecord;
  readonly #catalog: Pick<VolumeCatalog, "find">;

  constructor(record: VolumeRecord, catalog: Pick<VolumeCatalog, "find">) {
    this.#record = record;
    this.#catalog = catalog;
  }

  /** When it is to be looked up; undefined where nobody may be lost. */
  get dueAt(): number | undefined {
    const row = this.#record.find();
    return row?.destroyed_at === null ? (row.confirm_at ?? undefined) : undefined;
  }

  expect(afterMs: number): void {
    this.#record.set({ confirm_at: Date.now() + afterMs });
  }

  /** Looks it up, if it is time to, and has it go where it is not there. Never throws. */
  async run(): Promise<void> {
    const { dueAt } = this;
    if (dueAt === undefined || dueAt > Date.now()) return;
    const { environment, volume_id: volumeId } = this.#record.find()!;
    try {
      const isThere = (await this.#catalog.find(environment, volumeId)) !== undefined;
      // What was expected meanwhile is looked up at its own time.
      if (this.dueAt !== dueAt) return;
      this.#record.set(isThere ? { confirm_at: null } : { destroyed_at: Date.now() });
    } catch (error) {
      console.error(`Whether the catalog has ${volumeId} is looked up again.`, error);
      if (this.dueAt === dueAt) this.#record.set({ confirm_at: Date.now() + RETRY_MS });
    }
  }
}
