import type { ByteRange } from "../contract/byte-range.ts";
import { ApiError } from "../contract/errors.ts";

/** The bytes that a range means of so many. Throws `range_not_satisfiable` where those are none. */
export function windowOf(range: ByteRange, size: number): { first: number; last: number } {
  const first = "suffix" in range ? Math.max(0, size - range.suffix) : range.first;
  const last = "suffix" in range ? size - 1 : Math.min(range.last ?? size - 1, size - 1);
  if (first <= last) return { first, last };
  throw new ApiError("range_not_satisfiable", { detail: `There are ${size} bytes.`, extra: { size } });
}
