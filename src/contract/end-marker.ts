import { z } from "zod";

/**
 * The end of a streamed body whose length nobody knows. A chunked request that breaks off can look, further on, as
 * if it had ended well; so whoever read it to its true end says so with a marker behind the last byte, and whoever stores
 * it takes the marker away and refuses a body without it.
 */
const END_MARKER_BYTES = 32;

export const EndMarkerSchema = z.string().regex(/^[0-9a-f]{64}$/);

/** A new marker, in hexadecimal: random, so that no content can hold it. */
export function newEndMarker(): string {
  return [...crypto.getRandomValues(new Uint8Array(END_MARKER_BYTES))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

export function endMarkerBytes(marker: string): Uint8Array {
  return Uint8Array.from(marker.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

/** Takes the marker from the end of a stream of chunks; `isWhole` tells at the end whether it was there. */
export class EndMarkerCheck {
  readonly #marker: Uint8Array;
  /** What may be the marker: the last bytes that came. */
  #held: Uint8Array = new Uint8Array(0);

  constructor(marker: string) {
    this.#marker = endMarkerBytes(marker);
  }

  /** The bytes that are content for certain. */
  push(chunk: Uint8Array): Uint8Array[] {
    const keep = this.#marker.length;
    if (chunk.length >= keep) {
      const before = this.#held;
      this.#held = chunk.slice(chunk.length - keep);
      return [before, chunk.subarray(0, chunk.length - keep)].filter((part) => part.length > 0);
    }
    const joined = new Uint8Array(this.#held.length + chunk.length);
    joined.set(this.#held);
    joined.set(chunk, this.#held.length);
    const release = Math.max(0, joined.length - keep);
    this.#held = joined.slice(release);
    return release > 0 ? [joined.subarray(0, release)] : [];
  }

  get isWhole(): boolean {
    return this.#held.length === this.#marker.length && this.#held.every((byte, index) => byte === this.#marker[index]);
  }
}
