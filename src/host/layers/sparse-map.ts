import type { Segment } from "./file-calls.ts";
import { Refusal } from "./script.ts";
import { BLOCK, padding } from "./tar-header.ts";
import type { TarInput } from "./tar-input.ts";

/** The map of a sparse file, as GNU tar's format 1.0 has it before the file's data: decimal numbers, one a line. */
export const MAX_SEGMENTS = 500_000;

/** Whether it is better written whole. */
export function isSparse(segments: Segment[], size: number): boolean {
  if (segments.length > MAX_SEGMENTS) return false;
  return segments.reduce((sum, { length }) => sum + length, 0) < size;
}

export function encodeMap(segments: Segment[], size: number): Buffer {
  const last = segments.at(-1);
  // A hole at the end is told by an empty segment after it.
  const all = last && last.offset + last.length === size ? segments : [...segments, { offset: size, length: 0 }];
  const text = [all.length, ...all.flatMap(({ offset, length }) => [offset, length])].map((n) => `${n}\n`).join("");
  return Buffer.concat([Buffer.from(text), padding(text.length)]);
}

/** Reads the map; `stored` is the size of map and data together in the archive, `size` the file's own. */
export function readMap(input: TarInput, stored: number, size: number): { segments: Segment[]; mapBytes: number } {
  let text = "";
  let mapBytes = 0;
  const readNumber = (): number => {
    while (!text.includes("\n")) {
      if ((mapBytes += BLOCK) > stored) throw broken();
      text += input.need(BLOCK).toString("latin1");
    }
    const end = text.indexOf("\n");
    const digits = text.slice(0, end);
    text = text.slice(end + 1);
    if (!/^[0-9]{1,15}$/.test(digits)) throw broken();
    return Number(digits);
  };
  const count = readNumber();
  if (count > MAX_SEGMENTS + 1) throw broken();
  const segments: Segment[] = [];
  let at = 0;
  let data = 0;
  for (let index = 0; index < count; index++) {
    const [offset, length] = [readNumber(), readNumber()];
    if (offset < at || offset + length > size) throw broken();
    at = offset + length;
    data += length;
    segments.push({ offset, length });
  }
  if (mapBytes + data !== stored) throw broken();
  return { segments, mapBytes };
}

function broken(): Refusal {
  return new Refusal("the layer has a sparse file with a broken map");
}
