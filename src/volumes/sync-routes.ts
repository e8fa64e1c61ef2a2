import { z } from "zod";
import { parseRange, type ByteRange } from "../contract/byte-range.ts";
import { ApiError } from "../contract/errors.ts";
import { wholeNumber } from "../contract/fields.ts";
import { invalidRequest } from "../contract/invalid-request.ts";
import {
  CommitIdSchema,
  CommitPartSchema,
  CommitSchema,
  EntryPathSchema,
  HashesSchema,
  MAX_ENTRIES_A_PAGE,
  MAX_PARTS_A_COMMIT,
  PackIdSchema,
  type VolumeGrant,
} from "../contract/volume-sync.ts";
import { windowOf } from "./byte-window.ts";
import type { PackStore } from "./pack-store.ts";
import type { VolumeRpc } from "./rpc.ts";
import { readJson, readPack } from "./sync-body.ts";

/** One call of a host that has been let in. `names`: what its path names. */
export interface SyncCall {
  request: Request;
  query: URLSearchParams;
  names: string[];
  grant: VolumeGrant;
  volume: VolumeRpc;
  store: PackStore;
}

export interface SyncRoute {
  method: "GET" | "POST" | "PUT";
  path: RegExp;
  access: VolumeGrant["access"];
  run: (call: SyncCall) => Promise<Response>;
}

/** What `contract/volume-sync.ts` has below `/sync/`. */
export const SYNC_ROUTES: SyncRoute[] = [
  { method: "GET", path: /^changes$/, access: "read", run: answerChanges },
  { method: "POST", path: /^missing$/, access: "read", run: answerMissing },
  { method: "POST", path: /^locate$/, access: "read", run: answerLocate },
  { method: "GET", path: /^packs\/([^/]+)$/, access: "read", run: answerPack },
  { method: "PUT", path: /^packs\/([^/]+)$/, access: "write", run: putPack },
  { method: "POST", path: /^commits\/([^/]+)\/parts\/([^/]+)$/, access: "write", run: putPart },
  { method: "POST", path: /^commits\/([^/]+)$/, access: "write", run: commit },
];

const ChangesQuerySchema = z.strictObject({
  since: wholeNumber(0).default(0),
  after: z.string().max(32_768).optional(),
  prefix: EntryPathSchema.optional(),
  limit: wholeNumber(1, MAX_ENTRIES_A_PAGE).default(MAX_ENTRIES_A_PAGE),
});

async function answerChanges({ query, grant, volume }: SyncCall): Promise<Response> {
  const parsed = ChangesQuerySchema.safeParse(Object.fromEntries(query));
  if (!parsed.success) throw invalidRequest(parsed.error, "query");
  const { since, after, prefix, limit } = parsed.data;
  return Response.json(await volume.changes(grant, { since, after, prefix, limit }));
}

async function answerMissing({ request, grant, volume }: SyncCall): Promise<Response> {
  const { hashes } = await readJson(request, HashesSchema);
  return Response.json({ hashes: await volume.missing(grant, hashes) });
}

async function answerLocate({ request, grant, volume }: SyncCall): Promise<Response> {
  const { hashes } = await readJson(request, HashesSchema);
  return Response.json({ chunks: await volume.locate(grant, hashes) });
}

async function answerPack({ request, names: [name], grant, volume, store }: SyncCall): Promise<Response> {
  const packId = named(PackIdSchema, name, "pack_id");
  await volume.admit(grant, "read");
  const range = parseRange(request.headers.get("range") ?? undefined);
  const pack = await store.get(packId, range && r2RangeOf(range));
  if (!pack) throw new ApiError("file_not_found", { detail: `There is no pack ${packId}.` });
  const window = range && windowOf(range, pack.size);
  const headers = new Headers({ "content-type": "application/octet-stream", "accept-ranges": "bytes" });
  headers.set("content-length", String(window ? window.last - window.first + 1 : pack.size));
  if (window) headers.set("content-range", `bytes ${window.first}-${window.last}/${pack.size}`);
  return new Response(pack.body, { status: window ? 206 : 200, headers });
}

async function putPack({ request, names: [name], grant, volume, store }: SyncCall): Promise<Response> {
  const packId = named(PackIdSchema, name, "pack_id");
  const { body, size } = readPack(request);
  await volume.admit(grant, "write");
  if (!(await store.put(packId, body, size)))
    throw new ApiError("conflict", { detail: `There is another pack of the name ${packId}.` });
  return new Response(null, { status: 204 });
}

async function putPart({ request, names: [name, number], grant, volume }: SyncCall): Promise<Response> {
  const commitId = named(CommitIdSchema, name, "commit_id");
  const part = named(wholeNumber(0, MAX_PARTS_A_COMMIT - 1), number, "number");
  await volume.stagePart(grant, commitId, part, await readJson(request, CommitPartSchema));
  return new Response(null, { status: 204 });
}

async function commit({ request, names: [name], grant, volume }: SyncCall): Promise<Response> {
  const commitId = named(CommitIdSchema, name, "commit_id");
  const { parts } = await readJson(request, CommitSchema);
  return Response.json({ version: await volume.commit(grant, commitId, parts) });
}

/** What a part of the path must be. */
function named<Schema extends z.ZodType>(schema: Schema, text: string | undefined, name: string): z.output<Schema> {
  const parsed = z.object({ [name]: schema }).safeParse({ [name]: text });
  if (!parsed.success) throw invalidRequest(parsed.error, "path");
  return (parsed.data as Record<string, z.output<Schema>>)[name]!;
}

function r2RangeOf(range: ByteRange): R2Range {
  if ("suffix" in range) return { suffix: range.suffix };
  return range.last === undefined
    ? { offset: range.first }
    : { offset: range.first, length: range.last - range.first + 1 };
}
