import type { ByteRange } from "../../contract/byte-range.ts";
import type { ByteSource, ByteTarget } from "../../contract/byte-source.ts";
import {
  FileInfoSchema,
  FileListSchema,
  type FileInfo,
  type FileList,
  type FileListRequest,
} from "../../contract/file.ts";
import type { BodyLength, FileContent, Upload, WriteOptions } from "../backend.ts";
import type { HostClient } from "./host-client.ts";

/** A deep list, and one of a disk that is busy. */
const LIST_TIMEOUT_MS = 60_000;
/** A tree of any size to be removed, or to be copied to another filesystem. */
const TREE_TIMEOUT_MS = 10 * 60_000;

/** The files of one sandbox's container, over the protocol of its host. */
export abstract class HostFiles {
  protected readonly client: HostClient;
  protected readonly base: string;

  constructor(client: HostClient, base: string) {
    this.client = client;
    this.base = base;
  }

  async readFile(path: string, range?: ByteRange): Promise<FileContent> {
    const response = await this.client.raw("GET", this.#target("", { path }), {
      ...(range && { headers: { range: formatRange(range) } }),
    });
    const size = response.headers.get("x-sandbar-size");
    const part = /^bytes (\d+)-(\d+)\//.exec(response.headers.get("content-range") ?? "");
    return {
      body: bodyOf(response),
      size: size === null ? undefined : Number(size),
      range: part ? { first: Number(part[1]), last: Number(part[2]) } : undefined,
    };
  }

  writeFile(path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<void> {
    return this.#upload({ what: "file", path, options }, body);
  }

  stat(path: string): Promise<FileInfo> {
    return this.client.json(FileInfoSchema, "GET", this.#target("/stat", { path }));
  }

  list(path: string, request: FileListRequest): Promise<FileList> {
    const target = this.#target("/list", { path, ...request });
    return this.client.json(FileListSchema, "GET", target, { timeoutMs: LIST_TIMEOUT_MS });
  }

  makeDirectory(path: string, parents: boolean): Promise<FileInfo> {
    return this.client.json(FileInfoSchema, "POST", this.#target("/directories"), { body: { path, parents } });
  }

  move(from: string, to: string): Promise<void> {
    return this.client.run("POST", this.#target("/move"), { body: { from, to }, timeoutMs: TREE_TIMEOUT_MS });
  }

  remove(path: string, recursive: boolean): Promise<void> {
    return this.client.run("DELETE", this.#target("", { path, recursive }), { timeoutMs: TREE_TIMEOUT_MS });
  }

  watch(path: string, recursive: boolean): Promise<ByteSource> {
    return this.client.source(this.#target("/watch", { path, recursive }));
  }

  readArchive(path: string): Promise<ByteSource> {
    return this.client.source(this.#target("/archive", { path }));
  }

  writeArchive(path: string, body: ReadableStream<Uint8Array>, options: BodyLength): Promise<void> {
    return this.#upload({ what: "archive", path, options }, body);
  }

  uploadTarget(upload: Upload): Promise<ByteTarget> {
    return this.client.target(this.#uploadPath(upload));
  }

  async #upload(upload: Upload, body: ReadableStream<Uint8Array>): Promise<void> {
    const response = await this.client.raw("PUT", this.#uploadPath(upload), { body });
    await response.body?.cancel();
  }

  #uploadPath({ what, path, options }: Upload): string {
    const { size, endMarker, ...rest } = options;
    return this.#target(what === "archive" ? "/archive" : "", { path, ...rest, size, end_marker: endMarker });
  }

  #target(what: string, fields: Fields = {}): string {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(fields)) if (value !== undefined) query.set(name, String(value));
    return `${this.base}/files${what}${query.size > 0 ? `?${query}` : ""}`;
  }
}

type Fields = Record<string, string | number | boolean | undefined>;

function bodyOf(response: Response): ReadableStream<Uint8Array> {
  return response.body ?? new ReadableStream({ start: (controller) => controller.close() });
}

function formatRange(range: ByteRange): string {
  if ("suffix" in range) return `bytes=-${range.suffix}`;
  return `bytes=${range.first}-${range.last ?? ""}`;
}
