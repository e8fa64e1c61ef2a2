import type { IncomingMessage } from "node:http";
import { z } from "zod";
import { ApiError } from "../../contract/errors.ts";
import type { ByteRange } from "../../contract/byte-range.ts";

/** A parameter that is on or off; it is on, too, where it only stands there. */
export const FlagSchema = z.enum(["true", "false", "1", "0", ""]).transform((flag) => flag !== "false" && flag !== "0");

const MAX_JSON_BYTES = 4 * 1024 * 1024;

/** The value when it fits the schema; throws `invalid_request` naming the fields otherwise. */
export function valid<Schema extends z.ZodType>(schema: Schema, value: unknown, prefix = ""): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const errors = parsed.error.issues.map(({ path, message }) => ({
    path: [...(prefix ? [prefix] : []), ...path.map(String)].join("."),
    message,
  }));
  throw new ApiError("invalid_request", { errors });
}

/** The JSON body, at most 4 MiB of it, as the schema has it. */
export async function readJson<Schema extends z.ZodType>(
  request: IncomingMessage,
  schema: Schema,
): Promise<z.output<Schema>> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_JSON_BYTES) throw new ApiError("payload_too_large");
    parts.push(chunk);
  }
  let body: unknown;
  try {
    body = JSON.parse(Buffer.concat(parts).toString("utf8"));
  } catch {
    throw new ApiError("invalid_request", { detail: "The body is not JSON." });
  }
  return valid(schema, body);
}

/**
 * The one range that a `Range` header asks for. Several ranges, other units and what is malformed ask
 * for the whole, as HTTP has it.
 */
export function parseRange(header: string | undefined): ByteRange | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? "");
  if (!match) return undefined;
  const [, first, last] = match;
  if (!first) {
    if (!last) return undefined;
    if (Number(last) === 0) throw new ApiError("range_not_satisfiable");
    return { suffix: Number(last) };
  }
  if (!last) return { first: Number(first) };
  return Number(last) < Number(first) ? undefined : { first: Number(first), last: Number(last) };
}
