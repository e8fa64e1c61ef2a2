import { jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { EnvironmentSchema } from "./fields.ts";
import { idSchema } from "./ids.ts";

/**
 * How a host and a volume's object agree. A volume is a set of entries by path; each commit makes a version, and an entry bears the
 * version that made it what it is. The content of a file is a list of chunks, each known by the SHA-256 of its bytes; chunks
 * lie in packs, which are never changed, in the bucket. So nothing that the other side has is sent again.
 *
 * All of it under `/v1/volumes/{volume_id}/sync`, with a grant as the bearer token:
 *
 * | call                                          | body → answer |
 * | --------------------------------------------- | ------------- |
 * | `GET  changes?since=&after=&prefix=&limit=`   | → VolumeChanges: entries of versions above `since`, by version and path |
 * | `POST missing`                                | {hashes} → {hashes}: those that no pack has |
 * | `POST locate`                                 | {hashes} → {chunks: ChunkPlace[]} |
 * | `PUT  packs/{pack_id}`                        | bytes, with `content-length` → 204. Repeatable |
 * | `GET  packs/{pack_id}` with `Range`           | → bytes |
 * | `POST commits/{commit_id}/parts/{number}`     | CommitPart → 204: kept for the commit. Repeatable |
 * | `POST commits/{commit_id}`                    | {parts} → {version}: all of its parts become a version, or none. Repeatable, also long after |
 *
 * What a commit does, in one step: each entry takes the place of the one at its path, whoever wrote that (the last commit
 * wins), and nothing else changes. Where something lies below a path that is no directory any more, it goes; where a parent of an
 * entry is no directory, it gives way to one. `removed` takes the entry away, and with a directory nothing but itself: one that
 * something still lies in stays. A commit of which nothing is left to do makes no version.
 *
 * Parts are numbered from 0; of a path that several of them name, the one that was put last counts. What a part says of a pack is
 * true when it comes: the pack is there. That an entry was removed is told for `VOLUME_HISTORY_MS`; `changes` since a version before
 * that are a `conflict`, and are to be asked for since 0: what those do not name is not there.
 */

/** A file is cut at every so many bytes; the last chunk is what is left. */
export const VOLUME_CHUNK_BYTES = 1024 * 1024;
/** No pack is longer. */
export const MAX_PACK_BYTES = 32 * 1024 * 1024;
/** How much one call may name. */
export const MAX_HASHES_A_CALL = 5000;
export const MAX_ENTRIES_A_PART = 2000;
export const MAX_ENTRIES_A_PAGE = 5000;
/** No body of JSON is longer. */
export const MAX_SYNC_JSON_BYTES = 8 * 1024 * 1024;
/** How long removed entries, and commits that are done, are remembered. */
export const VOLUME_HISTORY_MS = 30 * 86_400_000;
export const MAX_PARTS_A_COMMIT = 100_000;
/** Each of them is asked of the bucket. */
export const MAX_PACKS_A_PART = 500;
/** No entry has more chunks: a file is at most 64 GiB. */
export const MAX_CHUNKS_A_FILE = 65_536;

export const ChunkHashSchema = z.string().regex(/^[0-9a-f]{64}$/);
const HEX_ID = /^[0-9a-f]{32}$/;
/** 16 random bytes, in hexadecimal: the host's choice. */
export const PackIdSchema = z.string().regex(HEX_ID);
export const CommitIdSchema = z.string().regex(HEX_ID);

/** What an operating system takes and a database keeps as it is. */
const isPlainText = (text: string) => text.isWellFormed() && !text.includes("\0");

/** A path within the volume: relative, no `.`, no `..`. A name that is no UTF-8 cannot be kept. */
export const EntryPathSchema = z
  .string()
  .min(1)
  .max(4096)
  .refine((path) => path.split("/").every((part) => part !== "" && part !== "." && part !== "..") && isPlainText(path));

const owned = {
  path: EntryPathSchema,
  /** Permission bits, the set-id and sticky bits with them. */
  mode: z.int().min(0).max(0o7777),
  uid: z.int().min(0),
  gid: z.int().min(0),
  /** Nanoseconds since 1970, in decimal. */
  mtime: z.string().regex(/^-?\d{1,20}$/),
};

/** What is at a path; `removed`: nothing any more. */
export const VolumeEntrySchema = z.discriminatedUnion("type", [
  z.strictObject({
    ...owned,
    type: z.literal("file"),
    size: z.int().min(0),
    chunks: z.array(ChunkHashSchema).max(MAX_CHUNKS_A_FILE),
  }),
  z.strictObject({ ...owned, type: z.literal("directory") }),
  z.strictObject({ ...owned, type: z.literal("symlink"), target: z.string().min(1).max(4096).refine(isPlainText) }),
  z.strictObject({ path: EntryPathSchema, type: z.literal("removed") }),
]);
export type VolumeEntry = z.infer<typeof VolumeEntrySchema>;

/** `after`: where the next page begins, an opaque cursor; left out on the last. `version`: what the volume is at after the last page. */
export const VolumeChangesSchema = z.object({
  version: z.int().min(0),
  entries: z.array(VolumeEntrySchema),
  after: z.string().optional(),
});
export type VolumeChanges = z.infer<typeof VolumeChangesSchema>;

/** Where a chunk lies. */
export const ChunkPlaceSchema = z.strictObject({
  hash: ChunkHashSchema,
  pack: PackIdSchema,
  offset: z.int().min(0),
  length: z.int().min(0).max(VOLUME_CHUNK_BYTES),
});
export type ChunkPlace = z.infer<typeof ChunkPlaceSchema>;

export const HashesSchema = z.strictObject({ hashes: z.array(ChunkHashSchema).max(MAX_HASHES_A_CALL) });
export const LocatedSchema = z.object({ chunks: z.array(ChunkPlaceSchema) });

/** A part of a commit: what becomes of entries, and where chunks lie that no pack had. */
export const CommitPartSchema = z.strictObject({
  entries: z.array(VolumeEntrySchema).max(MAX_ENTRIES_A_PART),
  chunks: z.array(ChunkPlaceSchema).max(MAX_HASHES_A_CALL),
});
export type CommitPart = z.infer<typeof CommitPartSchema>;

export const CommitSchema = z.strictObject({ parts: z.int().min(0).max(MAX_PARTS_A_COMMIT) });
export const CommittedSchema = z.object({ version: z.int().min(0) });

/** What a host may do with a volume, for a while. With `prefix` it sees and writes nothing but what is below. */
export const VolumeGrantSchema = z.object({
  volume_id: idSchema("volume"),
  environment: EnvironmentSchema,
  access: z.enum(["read", "write"]),
  prefix: EntryPathSchema.optional(),
});
export type VolumeGrant = z.infer<typeof VolumeGrantSchema>;

/** Seconds: a sandbox lives for a day at most, and what it wrote last may wait for a bucket that fails. */
export const VOLUME_GRANT_LIFETIME_S = 7 * 86_400;

const AUDIENCE = "sandbar-volume";
const keyOf = (signingSecret: string) => new TextEncoder().encode(`${AUDIENCE}:${signingSecret}`);

/** The grant as a bearer token (a JWT, HS256). */
export function signVolumeGrant(signingSecret: string, grant: VolumeGrant): Promise<string> {
  return new SignJWT({ grant })
    .setProtectedHeader({ alg: "HS256" })
    .setAudience(AUDIENCE)
    .setIssuedAt()
    .setExpirationTime(`${VOLUME_GRANT_LIFETIME_S}s`)
    .sign(keyOf(signingSecret));
}

/** The grant of a token; undefined where it is none of ours, or over. */
export async function verifyVolumeGrant(signingSecret: string, token: string): Promise<VolumeGrant | undefined> {
  const verified = await jwtVerify(token, keyOf(signingSecret), { algorithms: ["HS256"], audience: AUDIENCE }).catch(
    () => undefined,
  );
  return VolumeGrantSchema.safeParse(verified?.payload["grant"]).data;
}
