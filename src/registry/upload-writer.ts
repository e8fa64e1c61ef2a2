import type { BlobStore } from "./blob-store.ts";
import { RegistryError } from "./errors.ts";
import { hex } from "./manifest.ts";
import { MAX_BLOB_BYTES, PART_BYTES } from "./part-size.ts";
import type { Claim, RegistryRpc } from "./rpc.ts";

/**
 * Writes the body of one request behind what an upload has. While one part is on its way to the bucket the next is gathered: no
 * more than two are in memory, and the client is kept waiting meanwhile. What makes no whole part is kept as the upload's tail,
 * with which the next writer begins.
 */
export class UploadWriter {
  readonly #registry: RegistryRpc;
  readonly #store: BlobStore;
  readonly #uploadId: string;
  readonly #claim: Claim;
  #multipartId: string | undefined;
  #part: number;
  /** Of the next part: what has come, and no room for what has not. */
  #gathered: Uint8Array[] = [];
  #length = 0;
  #offset: number;
  /** The part on its way. */
  #sending: Promise<void> = Promise.resolve();

  constructor(registry: RegistryRpc, store: BlobStore, uploadId: string, claim: Claim) {
    this.#registry = registry;
    this.#store = store;
    this.#uploadId = uploadId;
    this.#claim = claim;
    this.#multipartId = claim.multipartId;
    this.#part = claim.parts;
    this.#offset = claim.offset;
  }

  /** Answers the upload as it is then. Of a body that breaks off, all that came counts; then that is thrown. */
  async write(body: ReadableStream<Uint8Array>): Promise<Claim> {
    const digest = this.#claim.offset === 0 ? new crypto.DigestStream("SHA-256") : undefined;
    // It is read only when all has gone well; nobody else hears of its failure.
    digest?.digest.catch(() => undefined);
    const hashing = digest?.getWriter();
    hashing?.closed.catch(() => undefined);
    const reader = body.getReader();
    let broken: { error: unknown } | undefined;
    let written: Claim;
    try {
      for (;;) {
        const { done, value } = await inTime(reader.read()).catch((error: unknown) => {
          broken = { error };
          return { done: true as const, value: undefined };
        });
        if (done) break;
        await hashing?.write(value);
        await this.#take(value);
      }
      // Where there are parts already, a whole one need not wait for the next: it may as well be the last.
      if (this.#length === PART_BYTES && this.#part > 0) await this.#send();
      await this.#sending;
      await hashing?.close();
      written = await this.#settle(digest && `sha256:${hex(await digest.digest)}`);
    } catch (error) {
      await Promise.allSettled([this.#sending, reader.cancel(error), hashing?.abort(error)]);
      throw error;
    }
    if (broken) throw new RegistryError("BLOB_UPLOAD_INVALID", { message: "The body broke off.", cause: broken.error });
    return written;
  }

  async #take(bytes: Uint8Array): Promise<void> {
    if (this.#offset + bytes.length > MAX_BLOB_BYTES) throw new RegistryError("BLOB_TOO_LARGE");
    for (let at = 0; at < bytes.length;) {
      // A part is sent once it is known not to be the last: a blob of one part is simply put.
      if (this.#length === PART_BYTES) await this.#send();
      if (this.#length === 0) await this.#begin();
      const some = bytes.subarray(at, at + PART_BYTES - this.#length);
      this.#gathered.push(some);
      this.#length += some.length;
      at += some.length;
    }
    this.#offset += bytes.length;
  }

  /** The first part begins with the tail. */
  async #begin(): Promise<void> {
    const { tail, parts } = this.#claim;
    if (!tail || this.#part !== parts) return;
    this.#gathered.push(await readTail(this.#store, tail));
    this.#length = tail.size;
  }

  /** What is gathered, as one. */
  #taken(): Uint8Array | undefined {
    if (this.#length === 0) return undefined;
    const all = new Uint8Array(this.#length);
    let at = 0;
    for (const some of this.#gathered) {
      all.set(some, at);
      at += some.length;
    }
    this.#gathered = [];
    this.#length = 0;
    return all;
  }

  async #send(): Promise<void> {
    await this.#sending;
    const bytes = this.#taken()!;
    this.#part += 1;
    const part = this.#part;
    this.#sending = this.#put(bytes, part);
    // The next to wait for it hears of a failure.
    this.#sending.catch(() => undefined);
  }

  async #put(bytes: Uint8Array, part: number): Promise<void> {
    const { key, writer } = this.#claim;
    if (this.#multipartId === undefined) {
      const begun = await this.#store.beginMultipart(key);
      await this.#registry.multipartBegun(this.#uploadId, writer, begun);
      this.#multipartId = begun;
    }
    const etag = await this.#store.putPart(key, this.#multipartId, part, bytes);
    await this.#registry.partUploaded(this.#uploadId, writer, part, etag);
  }

  /** Puts the rest as the upload's tail. The digest is that of all there is. */
  async #settle(digest: string | undefined): Promise<Claim> {
    const { ownTailKey, writer, parts } = this.#claim;
    const rest = this.#taken();
    if (rest) await this.#store.put(ownTailKey, rest);
    if (rest || digest !== undefined) {
      await this.#registry.uploadWritten(this.#uploadId, writer, { tailSize: rest?.length, digest });
    }
    const isUnchanged = this.#offset === this.#claim.offset;
    return {
      ...this.#claim,
      multipartId: this.#multipartId,
      parts: this.#part,
      tail: rest ? { key: ownTailKey, size: rest.length } : this.#part === parts ? this.#claim.tail : undefined,
      offset: this.#offset,
      digest: digest ?? (isUnchanged ? this.#claim.digest : undefined),
    };
  }
}

/** A client that says nothing for so long has gone. */
const MAX_SILENCE_MS = 120_000;

async function inTime<T>(read: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("The body stands still.")), MAX_SILENCE_MS);
  });
  try {
    return await Promise.race([read, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** The bytes of a tail, of the size that it is known to have. */
export async function readTail(store: BlobStore, tail: { key: string; size: number }): Promise<Uint8Array> {
  const body = await store.get(tail.key);
  const bytes = body && new Uint8Array(await new Response(body).arrayBuffer());
  if (bytes?.length === tail.size) return bytes;
  throw new RegistryError("UNAVAILABLE", { message: "A piece of the upload is not to be had. Begin it anew." });
}
