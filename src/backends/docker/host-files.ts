import type { ByteRange } from "../../contract/byte-range.ts";
import type { ByteSource } from "../../contract/byte-source.ts";
import {
  FileInfoSchema,
  FileListSchema,
  type FileInfo,
  type FileList,
  type FileListRequest,
} from "../../contract/file.ts";
import type { BodyLength, FileContent, WriteOptions } from "../backend.ts";
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

  writeFile(path: string, body: ReadableStream<Uint8Array>, { mode, ...length }: WriteOptions): Promise<void> {
    return this.#upload("", { path, mode }, body, length);
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

  writeArchive(path: string, body: ReadableStream<Uint8Array>, length: BodyLength): Promise<void> {
    return this.#upload("/archive", { path }, body, length);
  }

  async #upload(
    what: string,
    fields: Fields,
    body: ReadableStream<Uint8Array>,
    { size, endMarker }: BodyLength,
  ): Promise<void> {
    const target = this.#target(what, { ...fields, size, end_marker: endMarker });
    const response = await this.client.raw("PUT", target, { body });
    await response.body?.cancel();
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
