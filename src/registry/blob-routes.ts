import { parseRange, type ByteRange } from "../contract/byte-range.ts";
import { RegistryError } from "./errors.ts";
import { requireDigest } from "./names.ts";
import type { TargetOf } from "./path.ts";
import type { Visit } from "./visit.ts";

/** `GET` and `HEAD` of a blob. */
export async function answerBlob({ request, registry, store }: Visit, target: TargetOf<"blob">): Promise<Response> {
  const digest = requireDigest(target.digest);
  const blob = await registry.findBlob(digest);
  if (!blob) throw new RegistryError("BLOB_UNKNOWN");
  const headers = new Headers({
    "content-type": "application/octet-stream",
    "docker-content-digest": digest,
    etag: `"${digest}"`,
    "accept-ranges": "bytes",
    // The same digest is the same content for ever, for whoever may see it.
    "cache-control": "private, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
  });
  const asked = request.method === "GET" ? parseRange(request.headers.get("range") ?? undefined) : undefined;
  const range = asked && within(asked, blob.size);
  headers.set("content-length", String(range ? range.last - range.first + 1 : blob.size));
  if (range) headers.set("content-range", `bytes ${range.first}-${range.last}/${blob.size}`);
  if (request.method === "HEAD") return new Response(null, { headers });
  const body = await store.get(blob.key, range);
  if (!body) throw new RegistryError("BLOB_UNKNOWN", { message: "The blob has just been deleted." });
  return new Response(body, { status: range ? 206 : 200, headers });
}

export async function deleteBlob({ registry }: Visit, target: TargetOf<"blob">): Promise<Response> {
  await registry.deleteBlob(requireDigest(target.digest));
  return new Response(null, { status: 202 });
}

function within(range: ByteRange, size: number): { first: number; last: number } {
  const first = "suffix" in range ? Math.max(0, size - range.suffix) : range.first;
  const last = "suffix" in range ? size - 1 : Math.min(range.last ?? size - 1, size - 1);
  if (first <= last) return { first, last };
  throw new RegistryError("BLOB_RANGE_INVALID", { headers: { "content-range": `bytes */${size}` } });
}
