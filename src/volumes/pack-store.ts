import { ApiError } from "../contract/errors.ts";

/** What a listing of the bucket answers. */
export interface StoredPack {
  packId: string;
  uploadedAt: number;
}

const LISTED_AT_ONCE = 1000;
/** What R2 says of a range that lies behind the end. */
const OUTSIDE = /\(10039\)/;

/** The packs of one volume in the bucket. A bucket that fails is `volume_not_stored`, or `backend_unavailable` to who reads. */
export class PackStore {
  readonly #bucket: R2Bucket;
  readonly #prefix: string;

  constructor(bucket: R2Bucket, volumeId: string) {
    this.#bucket = bucket;
    this.#prefix = `volumes/${volumeId}/`;
  }

  /**
   * Puts a pack that is not there yet. What is there under its name stays, as it was put: false where that is of another size.
   * A body that breaks off leaves nothing.
   */
  async put(packId: string, body: ReadableStream<Uint8Array> | Uint8Array, size: number): Promise<boolean> {
    const onlyIf = new Headers({ "if-none-match": "*" });
    const fresh = await stored("put", packId, () => this.#bucket.put(this.#key(packId), body, { onlyIf }));
    return fresh !== null || (await this.size(packId)) === size;
  }

  /** Bytes that are there; undefined where there is no such pack. */
  async size(packId: string): Promise<number | undefined> {
    return (await stored("head", packId, () => this.#bucket.head(this.#key(packId))))?.size;
  }

  /** The bytes as they stream, and how many; undefined where there is no such pack. Throws `range_not_satisfiable`. */
  async get(packId: string, range?: R2Range): Promise<R2ObjectBody | undefined> {
    const options = range === undefined ? {} : { range };
    const outside = (error: unknown): "outside" => {
      if (error instanceof Error && OUTSIDE.test(error.message)) return "outside";
      throw error;
    };
    const found = await readable("get", packId, () => this.#bucket.get(this.#key(packId), options).catch(outside));
    if (found !== "outside") return found ?? undefined;
    const size = (await this.size(packId)) ?? 0;
    throw new ApiError("range_not_satisfiable", { detail: `The pack is of ${size} bytes.`, extra: { size } });
  }

  /** The next packs behind one, by name. */
  async list(after: string | undefined): Promise<{ packs: StoredPack[]; hasMore: boolean }> {
    const { objects, truncated } = await readable("list", after ?? "the first", () =>
      this.#bucket.list({
        prefix: this.#prefix,
        limit: LISTED_AT_ONCE,
        ...(after !== undefined && { startAfter: this.#key(after) }),
      }),
    );
    const packs = objects.map(({ key, uploaded }) => ({
      packId: key.slice(this.#prefix.length),
      uploadedAt: uploaded.getTime(),
    }));
    return { packs, hasMore: truncated };
  }

  /** Safe to repeat. At most 1000 of them. */
  async delete(packIds: string[]): Promise<void> {
    await stored("delete", packIds[0]!, () => this.#bucket.delete(packIds.map((packId) => this.#key(packId))));
  }

  #key(packId: string): string {
    return this.#prefix + packId;
  }
}

const stored = <T>(what: string, packId: string, ask: () => Promise<T>) =>
  asked(what, packId, ask, (cause) => {
    const detail = "The storage of volumes does not answer. Try again.";
    return new ApiError("volume_not_stored", { detail, retryAfter: 2, cause });
  });

const readable = <T>(what: string, packId: string, ask: () => Promise<T>) =>
  asked(what, packId, ask, (cause) => {
    const detail = "The storage of volumes does not answer. Try again; nothing is lost.";
    return new ApiError("backend_unavailable", { detail, cause });
  });

async function asked<T>(what: string, packId: string, ask: () => Promise<T>, failure: (cause: unknown) => ApiError) {
  try {
    return await ask();
  } catch (cause) {
    console.error(`The bucket failed (${what} of the pack ${packId}).`, cause);
    throw failure(cause);
  }
}
