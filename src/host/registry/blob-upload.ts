import { MAX_CHUNK_BYTES } from "../../contract/registry.ts";
import { isPassing, RegistryError, type Upstream } from "./upstream.ts";

/**
 * One blob on its way up, in chunks that the platform takes. A chunk that is cut off is taken up where the registry says that it
 * is. While one chunk is sent the next is gathered; no more than two are in memory.
 */
export class BlobUpload {
  readonly #upstream: Upstream;
  readonly #repository: string;
  readonly #target: string;
  readonly #chunkBytes: number;
  /** One is filled while the other is sent: made once, they cost a machine less than what a collector finds in its own time. */
  readonly #chunks: Buffer<ArrayBuffer>[] = [];
  #filling = 0;
  #gathered = 0;
  /** Handed to the registry, or under way. */
  #sent = 0;
  #sending: Promise<void> = Promise.resolve();

  private constructor(upstream: Upstream, repository: string, target: string, chunkBytes: number) {
    this.#upstream = upstream;
    this.#repository = repository;
    this.#target = target;
    this.#chunkBytes = chunkBytes;
  }

  /** Begins one. With `mount` (a digest) undefined comes back where the registry has that blob already. */
  static async begin(
    upstream: Upstream,
    repository: string,
    { mount, chunkBytes = MAX_CHUNK_BYTES }: { mount?: string | undefined; chunkBytes?: number } = {},
  ): Promise<BlobUpload | undefined> {
    const query = mount === undefined ? "" : `?${new URLSearchParams({ mount })}`;
    const response = await upstream.patiently("POST", `/v2/${repository}/blobs/uploads/${query}`);
    await response.body?.cancel();
    if (response.status === 201) return undefined;
    const location = response.headers.get("location");
    if (!location) throw new RegistryError("the registry does not say where to upload to", response.status);
    // It may be absolute: only its path counts, the registry is where it always is.
    const { pathname, search } = new URL(location, "http://registry");
    return new BlobUpload(upstream, repository, pathname + search, chunkBytes);
  }

  /** Bytes taken so far. */
  get size(): number {
    return this.#sent + this.#gathered;
  }

  /** Takes bytes, as fast as they can be sent. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const some = bytes.subarray(at, at + this.#chunkBytes - this.#gathered);
      const chunk = (this.#chunks[this.#filling] ??= Buffer.allocUnsafeSlow(this.#chunkBytes));
      chunk.set(some, this.#gathered);
      this.#gathered += some.length;
      at += some.length;
      if (this.#gathered === this.#chunkBytes) await this.#flush();
    }
  }

  /** Ends the blob; done when the registry has it whole and has checked its digest. */
  async finish(digest: string): Promise<void> {
    if (this.#gathered > 0) await this.#flush();
    await this.#sending;
    const separator = this.#target.includes("?") ? "&" : "?";
    await this.#upstream.retrying(async () => {
      try {
        const target = `${this.#target}${separator}${new URLSearchParams({ digest })}`;
        await (await this.#upstream.once("PUT", target)).body?.cancel();
      } catch (error) {
        // An answer may have been lost: then the upload is gone and the blob is there.
        const isGone = error instanceof RegistryError && error.status === 404;
        if (!isGone || !(await hasBlob(this.#upstream, this.#repository, digest))) throw error;
      }
    });
  }

  /** Gives it up. */
  async cancel(): Promise<void> {
    await this.#sending.catch(() => undefined);
    await this.#upstream.once("DELETE", this.#target).catch(() => undefined);
  }

  async #flush(): Promise<void> {
    await this.#sending;
    const chunk = this.#chunks[this.#filling]!.subarray(0, this.#gathered);
    this.#sending = this.#send(chunk, this.#sent);
    // Whoever writes next, or ends it, hears of it.
    this.#sending.catch(() => undefined);
    this.#sent += chunk.length;
    this.#gathered = 0;
    this.#filling = 1 - this.#filling;
  }

  /** The patience begins anew with each byte that gets there. */
  async #send(chunk: Uint8Array<ArrayBuffer>, offset: number): Promise<void> {
    let done = 0;
    const sendRest = async () => {
      try {
        const rest = chunk.subarray(done);
        const headers = {
          "content-type": "application/octet-stream",
          "content-range": `${offset + done}-${offset + chunk.length - 1}`,
        };
        await (await this.#upstream.once("PATCH", this.#target, { headers, body: rest })).body?.cancel();
        done = chunk.length;
      } catch (error) {
        const isBehind = error instanceof RegistryError && error.status === 416;
        if (!isBehind && !isPassing(error)) throw error;
        const arrived = (await this.#arrived()) - offset;
        if (arrived < 0) throw new RegistryError("the registry has lost a part of the upload", 404, error);
        const isMore = arrived > done;
        // `0-0` is said of one byte as of none: of one, where the first is refused.
        done = isBehind && offset + arrived === 0 && done === 0 ? 1 : arrived;
        if (isMore || done >= chunk.length) return;
        throw isBehind ? new RegistryError("the chunk was cut off", 503, error) : error;
      }
    };
    while (done < chunk.length) await this.#upstream.retrying(sendRest);
  }

  /** How many bytes the registry has of it; 0 also where it is one. */
  async #arrived(): Promise<number> {
    const response = await this.#upstream.patiently("GET", this.#target);
    const last = Number(/^0-(\d+)$/.exec(response.headers.get("range") ?? "")?.[1] ?? 0);
    return last === 0 ? 0 : last + 1;
  }
}

/** Whether the registry has the blob. */
export async function hasBlob(upstream: Upstream, repository: string, digest: string): Promise<boolean> {
  const request = { accept: [404] };
  return (await upstream.patiently("HEAD", `/v2/${repository}/blobs/${digest}`, request)).status === 200;
}
