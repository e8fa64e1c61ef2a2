import { z } from "zod";

/** Longest lifetime and idle timeout of a sandbox, in seconds. */
export const MAX_TIMEOUT_S = 86_400;
export const DEFAULT_TIMEOUT_S = 300;
/** What a sandbox counts for that asks for no cores or no memory (MiB): requested, not its limit. */
export const DEFAULT_CPU = 0.125;
export const DEFAULT_MEMORY = 128;
/** Sum of the bytes of an argv, and how many words there may be, empty ones too. */
export const MAX_ARGV_BYTES = 65_536;
const MAX_ARGV_WORDS = 16_384;
const MAX_ENV_BYTES = 262_144;
const MAX_PATH_BYTES = 4096;

const encoder = new TextEncoder();
const byteLength = (text: string) => encoder.encode(text).length;
/** Nothing an operating system takes holds a NUL byte: argv, env and paths end at it. */
const withoutNul = (text: string) => !text.includes("\0");

/** A string handed to the operating system as it is. */
export const OsStringSchema = z.string().refine(withoutNul, "must not hold a NUL character");

/** An argv: run without a shell, at least the program, at most {@link MAX_ARGV_BYTES} in all. */
export const CommandSchema = z
  .array(OsStringSchema)
  .min(1, "must name a program")
  .max(MAX_ARGV_WORDS, `must not be longer than ${MAX_ARGV_WORDS} words`)
  .refine((argv) => argv[0] !== "", "must name a program")
  .refine(
    (argv) => argv.reduce((sum, word) => sum + byteLength(word), 0) <= MAX_ARGV_BYTES,
    `must not be longer than ${MAX_ARGV_BYTES} bytes in all`,
  );

export const EnvSchema = z
  .record(
    z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "must be a variable name: letters, digits and _"),
    OsStringSchema,
  )
  .refine(
    (env) =>
      Object.entries(env).reduce((sum, [key, value]) => sum + key.length + byteLength(value) + 2, 0) <= MAX_ENV_BYTES,
    `must not be longer than ${MAX_ENV_BYTES} bytes in all`,
  );

/** An absolute path inside of the sandbox. */
export const PathSchema = OsStringSchema.startsWith("/", "must be an absolute path").refine(
  (path) => byteLength(path) <= MAX_PATH_BYTES,
  `must not be longer than ${MAX_PATH_BYTES} bytes`,
);

export const TimeoutSchema = z.int().min(1).max(MAX_TIMEOUT_S);
export const PortSchema = z.int().min(1).max(65_535);

const MAX_TAGS = 50;
const MAX_TAG_CHARACTERS = 128;
const TagTextSchema = z.string().max(MAX_TAG_CHARACTERS);
export const TagsSchema = z
  .record(
    TagTextSchema.min(1).refine((key) => !key.includes("="), "a tag's key must not hold `=`"),
    TagTextSchema,
  )
  .refine((tags) => Object.keys(tags).length <= MAX_TAGS, `must not hold more than ${MAX_TAGS} tags`);

export const NameSchema = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, "must be 1 to 64 of A-Z a-z 0-9 . _ -");
export const EnvironmentSchema = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, "must be 1 to 63 of a-z 0-9 - and not begin or end with -");

/** A whole number in a query or a header: digits, nothing else. */
export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER) {
  return z
    .string()
    .regex(/^\d{1,16}$/, "must be a whole number")
    .transform(Number)
    .pipe(z.int().min(min).max(max))
    .meta({ type: "integer", minimum: min, maximum: max });
}

const MAX_WAIT_S = 600;
/** Seconds a call may wait for something, from the query. */
export const WaitSchema = z
  .string()
  .regex(/^\d{1,9}(\.\d{1,9})?$/, "must be a number of seconds")
  .transform(Number)
  .pipe(z.number().max(MAX_WAIT_S))
  .meta({ type: "number", minimum: 0, maximum: MAX_WAIT_S });

export const RegionSchema = z.string().regex(/^[a-z0-9-]{1,64}$/, "must be the name of a region");

const MAX_LABELS = 32;
/** What is said of a host, and asked of one: `{"disk": "nvme"}`. */
export const LabelsSchema = z
  .record(
    z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/, "must be 1 to 63 of A-Z a-z 0-9 . _ / -"),
    z.string().regex(/^[A-Za-z0-9._-]{0,63}$/, "must be at most 63 of A-Z a-z 0-9 . _ -"),
  )
  .refine((labels) => Object.keys(labels).length <= MAX_LABELS, `must not hold more than ${MAX_LABELS} labels`);
