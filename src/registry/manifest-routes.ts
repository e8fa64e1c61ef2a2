import { RegistryError } from "./errors.ts";
import { MAX_MANIFEST_BYTES, readManifest } from "./manifest.ts";
import { parseReference } from "./names.ts";
import type { TargetOf } from "./path.ts";
import type { Visit } from "./visit.ts";

/** `GET` and `HEAD` of a manifest. */
export async function answerManifest({ request, registry }: Visit, target: TargetOf<"manifest">): Promise<Response> {
  const manifest = await registry.getManifest(target.repository, parseReference(target.reference));
  if (!manifest) throw new RegistryError("MANIFEST_UNKNOWN");
  const { digest, mediaType, bytes } = manifest;
  const headers = {
    "content-type": mediaType,
    "content-length": String(bytes.length),
    "docker-content-digest": digest,
    etag: `"${digest}"`,
    "x-content-type-options": "nosniff",
  };
  return new Response(request.method === "HEAD" ? null : bytes, { headers });
}

export async function putManifest({ request, registry }: Visit, target: TargetOf<"manifest">): Promise<Response> {
  const reference = parseReference(target.reference);
  const bytes = await readBody(request);
  const manifest = await readManifest(bytes, request.headers.get("content-type") ?? undefined);
  const { digest, subject } = manifest;
  if ("digest" in reference && reference.digest !== digest) {
    throw new RegistryError("DIGEST_INVALID", {
      message: `The manifest has the digest ${digest}.`,
      detail: { digest },
    });
  }
  await registry.putManifest(target.repository, "tag" in reference ? reference.tag : undefined, manifest);
  const headers = new Headers({
    location: `/v2/${target.repository}/manifests/${digest}`,
    "docker-content-digest": digest,
  });
  if (subject !== undefined) headers.set("oci-subject", subject);
  return new Response(null, { status: 201, headers });
}

export async function deleteManifest({ registry }: Visit, target: TargetOf<"manifest">): Promise<Response> {
  await registry.deleteManifest(target.repository, parseReference(target.reference));
  return new Response(null, { status: 202 });
}

/** Reads no more than a manifest may have. */
async function readBody(request: Request): Promise<Uint8Array<ArrayBuffer>> {
  const tooLarge = () =>
    new RegistryError("MANIFEST_TOO_LARGE", { message: `A manifest may have ${MAX_MANIFEST_BYTES} bytes at most.` });
  if (Number(request.headers.get("content-length")) > MAX_MANIFEST_BYTES) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > MAX_MANIFEST_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}
