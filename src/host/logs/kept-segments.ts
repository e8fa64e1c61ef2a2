import { measure, removeSegment, SEGMENT_BYTES, segmentOf } from "./segments.ts";

/** Which segments of a stream are there. The first one stays beside those that the window holds. */
export class KeptSegments {
  readonly #base: string;
  #length: number;
  #oldest: number;
  /** Set where even the last segment has gone. */
  #isEmptied = false;
  #hasHead = true;

  /** `found`: the numbers of the segments that lie there already. */
  constructor(base: string, found: string[]) {
    this.#base = base;
    const { length, oldestSegment } = measure(base, found);
    this.#length = length;
    this.#oldest = oldestSegment;
  }

  /** Bytes written so far, also those no longer kept. */
  get length(): number {
    return this.#length;
  }

  /** The first byte behind which nothing is missing. */
  get oldestOffset(): number {
    return this.#isEmptied ? this.#length : Math.min(this.#oldest * SEGMENT_BYTES, this.#length);
  }

  get bytes(): number {
    return this.#length - this.oldestOffset + (this.#hasHead && this.#oldest > 0 ? SEGMENT_BYTES : 0);
  }

  /** How much of the first segment is there. */
  get headBytes(): number {
    return this.#hasHead ? Math.min(this.#length, SEGMENT_BYTES) : 0;
  }

  /** True when that began another segment. */
  grow(length: number): boolean {
    const crossed = segmentOf(length) !== segmentOf(this.#length);
    this.#length = length;
    return crossed;
  }

  /** Drops what lies before the offset. */
  dropBefore(offset: number): void {
    while ((this.#oldest + 1) * SEGMENT_BYTES <= offset) this.#dropOldest();
  }

  /** Drops the oldest, until at most so many bytes are left; 0 is for a stream to which nothing is added any more. */
  shrink(keepBytes: number): void {
    if (keepBytes === 0) this.#removeHead();
    const last = segmentOf(Math.max(0, this.#length - 1));
    while (this.#oldest < last && this.bytes > keepBytes) this.#dropOldest();
    if (keepBytes > 0 || this.#isEmptied) return;
    removeSegment(this.#base, last);
    this.#isEmptied = true;
  }

  #dropOldest(): void {
    if (this.#oldest !== 0) removeSegment(this.#base, this.#oldest);
    this.#oldest++;
  }

  #removeHead(): void {
    if (this.#oldest === 0 && segmentOf(Math.max(0, this.#length - 1)) > 0) this.#oldest = 1;
    if (this.#oldest > 0 && this.#hasHead) removeSegment(this.#base, 0);
    this.#hasHead = false;
  }
}
