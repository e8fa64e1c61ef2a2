import type { ByteRange } from "../contract/byte-range.ts";
import { RegistryError } from "./errors.ts";

/** What R2 says of a multipart upload that it does not know (any more). */
const NO_SUCH_UPLOAD = /\(10024\)|does not exist/;

/** The bucket, as the registry uses it. A bucket that fails is UNAVAILABLE. */
export class BlobStore {
  readonly #bucket: R2Bucket;

  constructor(bucket: R2Bucket) {
    this.#bucket = bucket;
  }

  /** The bytes as they stream; undefined where there are none under this key. */
  async get(key: string, range?: ByteRange): Promise<ReadableStream<Uint8Array> | undefined> {
    const options = range && { range: rangeOf(range) };
    const object = await available("get", key, () => this.#bucket.get(key, options ?? {}));
    return object?.body;
  }

  /** Size of what is there. */
  async size(key: string): Promise<number | undefined> {
    return (await available("head", key, () => this.#bucket.head(key)))?.size;
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    await available("put", key, () => this.#bucket.put(key, bytes));
  }

  /** Safe to repeat. */
  async delete(keys: string[]): Promise<void> {
    await available("delete", keys[0]!, () => this.#bucket.delete(keys));
  }

  async beginMultipart(key: string): Promise<string> {
    return (await available("begin", key, () => this.#bucket.createMultipartUpload(key))).uploadId;
  }

  /** Answers the part's etag. */
  async putPart(key: string, multipartId: string, part: number, bytes: Uint8Array): Promise<string> {
    const upload = this.#bucket.resumeMultipartUpload(key, multipartId);
    return (await available("part", key, () => upload.uploadPart(part, bytes))).etag;
  }

  /** The parts become the object: those of these etags or none. Completed already, it is what it is. */
  async completeMultipart(key: string, multipartId: string, etags: string[], size: number): Promise<void> {
    const upload = this.#bucket.resumeMultipartUpload(key, multipartId);
    const parts = etags.map((etag, index) => ({ partNumber: index + 1, etag }));
    await available("complete", key, async () => {
      try {
        await upload.complete(parts);
      } catch (error) {
        if ((await this.#bucket.head(key))?.size !== size) throw error;
      }
    });
  }

  /** Safe to repeat, also once it is completed. */
  async abortMultipart(key: string, multipartId: string): Promise<void> {
    await available("abort", key, async () => {
      try {
        await this.#bucket.resumeMultipartUpload(key, multipartId).abort();
      } catch (error) {
        if (!(error instanceof Error && NO_SUCH_UPLOAD.test(error.message))) throw error;
      }
    });
  }
}

function rangeOf(range: ByteRange): R2Range {
  if ("suffix" in range) return { suffix: range.suffix };
  return range.last === undefined
    ? { offset: range.first }
    : { offset: range.first, length: range.last - range.first + 1 };
}

async function available<T>(what: string, key: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    console.error(`The bucket failed (${what} of ${key}).`, cause);
    throw new RegistryError("UNAVAILABLE", { message: "The storage of blobs does not answer. Try again.", cause });
  }
}
