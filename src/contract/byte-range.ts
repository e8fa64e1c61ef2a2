/** A range of bytes as HTTP has it: from `first` to `last`, or the last `suffix` bytes. */
export type ByteRange = { first: number; last?: number } | { suffix: number };

/**
 * The one range of a `Range` header. Anything else (several ranges, another unit, nonsense) is no range,
 * as RFC 9110 has it: the whole is answered.
 */
export function parseRange(header: string | undefined): ByteRange | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/i.exec(header?.trim() ?? "");
  if (!match) return undefined;
  const [, first, last] = match;
  if (first === "") return last === "" ? undefined : { suffix: Number(last) };
  if (last === "") return { first: Number(first) };
  return Number(last) < Number(first) ? undefined : { first: Number(first), last: Number(last) };
}
