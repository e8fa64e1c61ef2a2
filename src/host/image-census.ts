import { MAX_REPORTED_IMAGES } from "../contract/host-report.ts";

const INTERVAL_MS = 60_000;

/** The images that the control plane is told of, and tells to remove. */
export interface ReportedImages {
  list(): Promise<string[]>;
  remove(imageId: string): Promise<void>;
}

/**
 * Which snapshots are here, told by turns, and those removed that are no more. An engine that takes its time with either holds up
 * nobody.
 */
export class ImageCensus {
  readonly #images: ReportedImages;
  readonly #log: (line: string) => void;
  #dueAt = 0;
  #from = 0;
  /** What is to be told, until it has arrived. */
  #page: string[] | undefined;
  #isCounting = false;
  readonly #dropping = new Set<string>();
  #dropped: Promise<void> = Promise.resolve();

  constructor(images: ReportedImages, log: (line: string) => void) {
    this.#images = images;
    this.#log = log;
  }

  /** The next few, once a minute. */
  get page(): string[] | undefined {
    if (!this.#page && !this.#isCounting && Date.now() >= this.#dueAt) void this.#count();
    return this.#page;
  }

  /** The page has arrived. */
  told(page: string[]): void {
    if (this.#page !== page) return;
    this.#page = undefined;
    this.#from += page.length;
    this.#dueAt = Date.now() + INTERVAL_MS;
  }

  /** Removes images, one after the other. */
  drop(imageIds: string[]): void {
    for (const imageId of imageIds) {
      if (this.#dropping.has(imageId)) continue;
      this.#dropping.add(imageId);
      this.#dropped = this.#dropped.then(() => this.#drop(imageId));
    }
  }

  async #count(): Promise<void> {
    this.#isCounting = true;
    try {
      const all = await this.#images.list();
      if (this.#from >= all.length) this.#from = 0;
      this.#page = all.toSorted().slice(this.#from, this.#from + MAX_REPORTED_IMAGES);
    } catch {
      this.#dueAt = Date.now() + INTERVAL_MS;
    }
    this.#isCounting = false;
  }

  async #drop(imageId: string): Promise<void> {
    this.#log(`removing ${imageId}: it was deleted, or its time is over`);
    await this.#images.remove(imageId).catch((error: unknown) => this.#log(`${imageId} stays: ${String(error)}`));
    this.#dropping.delete(imageId);
  }
}
