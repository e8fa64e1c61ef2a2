import { MAX_REPORTED_IMAGES } from "../../contract/host-report.ts";

const LOOK_MS = 30_000;
const REPEAT_MS = 600_000;
/** What a report takes of one. */
const MAX_REFERENCE_CHARACTERS = 512;

/**
 * Which images users can name without a pull: told at first, when that has changed, and now and then all the same. An engine that
 * takes its time with the list holds up nobody.
 */
export class ReferenceCensus {
  readonly #list: () => Promise<string[]>;
  #lookAt = 0;
  #isLooking = false;
  /** As last seen. */
  #seen: string[] | undefined;
  #told: string[] | undefined;
  #toldAt = 0;

  constructor(list: () => Promise<string[]>) {
    this.#list = list;
  }

  /** What is to be told, where something is. */
  get page(): string[] | undefined {
    if (!this.#isLooking && Date.now() >= this.#lookAt) void this.#look();
    const isDue = this.#seen !== this.#told || Date.now() >= this.#toldAt + REPEAT_MS;
    return isDue ? this.#seen : undefined;
  }

  /** The page has arrived. */
  told(page: string[]): void {
    this.#told = page;
    this.#toldAt = Date.now();
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    try {
      const all = (await this.#list()).filter((reference) => reference.length <= MAX_REFERENCE_CHARACTERS);
      const seen = [...new Set(all)].toSorted().slice(0, MAX_REPORTED_IMAGES);
      // The same list as before stays the same object: nothing is to be told.
      if (seen.join("\n") !== this.#seen?.join("\n")) this.#seen = seen;
    } catch {
      // The engine is away: what was there stays known.
    }
    this.#isLooking = false;
    this.#lookAt = Date.now() + LOOK_MS;
  }
}
