import { ApiError } from "../contract/errors.ts";
import { isLink, type RawStat } from "../contract/file-info.ts";

/** Of one field; a path has 4096 bytes at most, and there are two in the longest. */
const MAX_FIELD_CHARACTERS = 20_000;
const FIELDS = 5;
const END = "end";
const MAX_BYTES = 512 * 1024 * 1024;

/** One record: the name as it was given to `stat`, and what there is. */
export interface StatRecord {
  name: string;
  raw: RawStat;
}

/**
 * The format for `stat -c`, of coreutils and busybox. Names hold any byte but NUL, which no format can say: what parts the
 * fields is a word that nobody could know when the names were made.
 */
export function statFormat(nonce: string): string {
  return ["", "%f %s %Y %u %g %y", "%U", "%G", "%n", "%N", ""].join(nonce);
}

/** The line that must come behind the records. */
export const statEnd = (nonce: string) => `${nonce}${END}`;

/** Reads the records that `stat` wrote in this format, up to {@link statEnd}; throws when that does not come. */
export async function* statRecords(
  next: () => Promise<IteratorResult<Buffer>>,
  nonce: string,
): AsyncGenerator<StatRecord, void> {
  let rest = "";
  let size = 0;
  /** Of the record that is being read; undefined between two. */
  let fields: string[] | undefined;
  for (let read = await next(); !read.done; read = await next()) {
    size += read.value.length;
    if (size > MAX_BYTES)
      throw new ApiError("payload_too_large", { detail: "The directory holds too much to be listed." });
    const parts = (rest + read.value.toString("latin1")).split(nonce);
    rest = parts.pop()!;
    for (const part of parts) {
      if (!fields) {
        fields = [];
        continue;
      }
      if (fields.push(part) < FIELDS) continue;
      yield recordOf(fields);
      fields = undefined;
    }
    if (fields?.length === 0 && rest === `${END}\n`) return;
    if (rest.length > MAX_FIELD_CHARACTERS) break;
  }
  throw new Error("what the sandbox says of its files is cut, or is nothing that stat says");
}

function recordOf(fields: string[]): StatRecord {
  const [head, owner, group, name, named] = fields as [string, string, string, string, string];
  const match = /^([0-9a-f]{1,8}) (\d{1,20}) (-?\d{1,20}) (\d{1,10}) (\d{1,10}) [^.]*(?:\.(\d{9}))?/.exec(head);
  if (!match) throw new Error("the sandbox says nonsense of its files");
  const mode = parseInt(match[1]!, 16);
  const target = isLink(mode) ? targetOf(name, named) : undefined;
  return {
    name: asText(name),
    raw: {
      mode,
      size: BigInt(match[2]!),
      seconds: BigInt(match[3]!),
      nanoseconds: Number(match[6] ?? 0),
      owner: owner === "UNKNOWN" ? match[4]! : asText(owner),
      group: group === "UNKNOWN" ? match[5]! : asText(group),
      target: target === undefined ? undefined : asText(target),
    },
  };
}

/** Of `'name' -> 'target'`, as busybox has it, or `name -> target`, as coreutils has it when asked for the literal. */
function targetOf(name: string, named: string): string | undefined {
  const quoted = `'${name}' -> '`;
  if (named.startsWith(quoted) && named.endsWith("'")) return named.slice(quoted.length, -1);
  const literal = `${name} -> `;
  return named.startsWith(literal) ? named.slice(literal.length) : undefined;
}

const asText = (bytes: string) => Buffer.from(bytes, "latin1").toString("utf8");
