import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { RegistryError, type Upstream, wholeOf } from "./upstream.ts";

/** What it takes to get nowhere, until a blob is given up. */
const MAX_BARREN_ATTEMPTS = 5;

/** A blob's bytes. A connection that breaks off is taken up behind the last byte; the end comes only where the digest is right. */
export function downloadBlob(upstream: Upstream, repository: string, digest: string): Readable {
  return Readable.from(chunksOf(upstream, `/v2/${repository}/blobs/${digest}`, digest), { objectMode: false });
}

async function* chunksOf(upstream: Upstream, target: string, digest: string): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let at = 0;
  let isHandedOut = false;
  for (let barren = 0; ;) {
    const before = at;
    try {
      const resumed = { headers: { range: `bytes=${at}-` }, accept: [416] };
      const { body, status } = await upstream.patiently("GET", target, at === 0 ? {} : resumed);
      // There is nothing behind the last byte; the digest says whether that is it.
      if (status === 416) {
        await body?.cancel();
        break;
      }
      if (at > 0 && status !== 206) throw new RegistryError("the registry does not go on where it was", status);
      for await (const chunk of body ?? []) {
        const bytes = chunk as Uint8Array;
        hash.update(bytes);
        at += bytes.length;
        isHandedOut = true;
        yield bytes;
        isHandedOut = false;
      }
      break;
    } catch (error) {
      // Thrown while the bytes are out, it is the reader's.
      if (error instanceof RegistryError || isHandedOut) throw error;
      barren = at === before ? barren + 1 : 0;
      if (barren === MAX_BARREN_ATTEMPTS) throw new RegistryError("the registry breaks off", 0, error);
    }
  }
  if (`sha256:${hash.digest("hex")}` !== digest) throw new RegistryError(`the blob ${digest} is damaged`, 500);
}

/** A small document of the registry's, checked against its digest. */
export async function downloadDocument(
  upstream: Upstream,
  target: string,
  digest: string,
  maxBytes: number,
  accept = "*/*",
): Promise<string> {
  const bytes = await upstream.retrying(async () => {
    const response = await upstream.once("GET", target, { headers: { accept } });
    if (Number(response.headers.get("content-length") ?? 0) > maxBytes) {
      await response.body?.cancel();
      throw new RegistryError("the registry has a document that is too large", 413);
    }
    return wholeOf(response);
  });
  const actual = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  if (actual !== digest) throw new RegistryError(`the document ${digest} is damaged`, 500);
  return bytes.toString("utf8");
}
