import type { BlobStore } from "./blob-store.ts";
import { RegistryError } from "./errors.ts";
import { hex } from "./manifest.ts";
import type { Claim, RegistryRpc, StoredBlob } from "./rpc.ts";
import { readTail } from "./upload-writer.ts";

/**
 * Makes an upload the blob of this digest. Nothing of it is to be seen before all of it is known to be so: content of another
 * digest is given up (DIGEST_INVALID).
 */
export async function finishUpload(
  registry: RegistryRpc,
  store: BlobStore,
  uploadId: string,
  claim: Claim,
  digest: string,
): Promise<void> {
  const { writer } = claim;
  if (claim.digest !== undefined && claim.digest !== digest) return giveUp(registry, uploadId, writer, claim.digest);
  const blob = await assemble(registry, store, uploadId, claim);
  // What came in several requests was not seen whole by any of them.
  const actual = claim.digest ?? (await digestOf(store, blob));
  if (actual !== digest) return giveUp(registry, uploadId, writer, actual);
  await registry.finishUpload(uploadId, writer, digest, blob);
}

async function giveUp(registry: RegistryRpc, uploadId: string, writer: string, actual: string): Promise<never> {
  await registry.abandonUpload(uploadId, writer);
  throw new RegistryError("DIGEST_INVALID", {
    message: `The content has the digest ${actual}. The upload is discarded.`,
    detail: { digest: actual },
  });
}

/** The whole content under one key. Safe to repeat. */
async function assemble(registry: RegistryRpc, store: BlobStore, uploadId: string, claim: Claim): Promise<StoredBlob> {
  const { writer, key, multipartId, tail, offset: size, ownTailKey } = claim;
  if (multipartId === undefined || claim.parts === 0) {
    if (tail) return tail;
    await store.put(ownTailKey, new Uint8Array());
    return { key: ownTailKey, size: 0 };
  }
  if ((await store.size(key)) === size) return { key, size };
  const etags = await registry.partsOf(uploadId, writer);
  if (tail) etags.push(await store.putPart(key, multipartId, etags.length + 1, await readTail(store, tail)));
  await store.completeMultipart(key, multipartId, etags, size);
  return { key, size };
}

async function digestOf(store: BlobStore, { key }: StoredBlob): Promise<string> {
  const body = await store.get(key);
  if (!body) throw new RegistryError("UNAVAILABLE", { message: "The upload is not to be read back. Try again." });
  const stream = new crypto.DigestStream("SHA-256");
  await body.pipeTo(stream);
  return `sha256:${hex(await stream.digest)}`;
}
