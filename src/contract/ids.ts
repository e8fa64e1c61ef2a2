import { z } from "zod";

/** The prefix of every kind of id. An id is `<prefix>-` and 22 characters of `[a-z0-9]`, so it fits in a host name. */
export const ID_PREFIX = {
  sandbox: "sb",
  process: "pr",
  image: "im",
  volume: "vo",
  secret: "se",
  host: "ho",
  key: "ak",
  pool: "po",
  warm: "wm",
} as const;

export type IdKind = keyof typeof ID_PREFIX;

const ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789";
const RANDOM_LENGTH = 22;
/** Bytes at or above this are thrown away, so that every character is equally likely. */
const UNBIASED_LIMIT = 256 - (256 % ALPHABET.length);

/** A new random id, 113 bits of it: `newId("sandbox")` → `sb-…`. */
export function newId(kind: IdKind): string {
  let random = "";
  while (random.length < RANDOM_LENGTH) {
    for (const byte of crypto.getRandomValues(new Uint8Array(32))) {
      if (byte < UNBIASED_LIMIT && random.length < RANDOM_LENGTH) random += ALPHABET[byte % ALPHABET.length];
    }
  }
  return `${ID_PREFIX[kind]}-${random}`;
}

/** Zod schema of one kind of id. */
export function idSchema(kind: IdKind) {
  return z.string().regex(new RegExp(`^${ID_PREFIX[kind]}-[a-z0-9]{${RANDOM_LENGTH}}$`), `must be a ${kind} id`);
}

/** Whether the text has the shape of such an id. */
export const isId = (kind: IdKind, text: string): boolean => idSchema(kind).safeParse(text).success;

/** The process id of the entrypoint; every other process has a `pr-` id. */
export const MAIN_PROCESS_ID = "main";

export const ProcessIdSchema = z
  .string()
  .regex(new RegExp(`^(main|pr-[a-z0-9]{${RANDOM_LENGTH}})$`), "must be a process id or `main`");
