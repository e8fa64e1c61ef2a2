import { ApiError } from "../../src/contract/errors.ts";

/** Like a host's: so much of each stream is kept. */
export const WINDOW_BYTES = 16 * 1024 * 1024;

/** One output stream of a fake process: the last bytes of it, by offset. */
export class FakeLog {
  #chunks: { start: number; bytes: Uint8Array }[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  append(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push({ start: this.#length, bytes });
    this.#length += bytes.length;
    const oldest = this.#length - WINDOW_BYTES;
    while (this.#chunks[0] && this.#chunks[0].start < oldest) {
      const first = this.#chunks.shift()!;
      const skip = oldest - first.start;
      if (skip < first.bytes.length) this.#chunks.unshift({ start: oldest, bytes: first.bytes.subarray(skip) });
    }
  }

  get oldestOffset(): number {
    return this.#chunks[0]?.start ?? this.#length;
  }

  /** The bytes there are from the offset on. Throws `output_expired`. */
  from(offset: number): Uint8Array {
    if (offset < this.oldestOffset) {
      const extra = { oldest_offset: this.oldestOffset };
      throw new ApiError("output_expired", { detail: `Kept from ${this.oldestOffset}.`, extra });
    }
    const parts = this.#chunks.flatMap(({ start, bytes }) => bytes.subarray(Math.max(0, offset - start)));
    const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      joined.set(part, at);
      at += part.length;
    }
    return joined;
  }

  /** The first bytes, as answers that carry output have them; here as long as they are kept. */
  first(limit: number): Uint8Array {
    return this.from(this.oldestOffset).slice(0, limit);
  }
}
