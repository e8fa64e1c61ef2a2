import type { BodyLength, FileContent, WriteOptions } from "../../src/backends/backend.ts";
import type { ByteRange } from "../../src/contract/byte-range.ts";
import type { ByteSource } from "../../src/contract/byte-source.ts";
import { ApiError, type ErrorCode } from "../../src/contract/errors.ts";
import type { FileInfo, FileList, FileListRequest } from "../../src/contract/file.ts";
import { readArchive, readFile, streamOf, writeArchive, writeFile } from "./fake-bodies.ts";
import type { FakeFiles } from "./fake-files.ts";
import type { FakeContainer } from "./fake-host.ts";
import { watchOf } from "./fake-watch.ts";

/** What goes wrong with files, as it is set. */
export interface FileFaults {
  fileRefusal: ErrorCode | undefined;
  breaksArchives: boolean;
}

/** What a fake backend does with files. */
export abstract class FakeFileCalls {
  /** The container that runs, for what counts as activity. */
  protected abstract used(): FakeContainer;
  /** True once the container runs no more. */
  protected abstract isOver(container: FakeContainer): boolean;
  protected abstract readonly faults: FileFaults;

  async readFile(path: string, range?: ByteRange): Promise<FileContent> {
    return readFile(this.#files(), path, range);
  }

  async writeFile(path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<void> {
    return writeFile(this.#files(), path, body, options);
  }

  async stat(path: string): Promise<FileInfo> {
    return this.#files().stat(path);
  }

  async list(path: string, request: FileListRequest): Promise<FileList> {
    return this.#files().list(path, request);
  }

  async makeDirectory(path: string, parents: boolean): Promise<FileInfo> {
    return this.#files().makeDirectory(path, parents);
  }

  async move(from: string, to: string): Promise<void> {
    this.#files().move(from, to);
  }

  async remove(path: string, recursive: boolean): Promise<void> {
    this.#files().remove(path, recursive);
  }

  async watch(path: string, recursive: boolean): Promise<ByteSource> {
    const container = this.used();
    return { kind: "stream", body: watchOf(this.#files(), path, recursive, () => this.isOver(container)) };
  }

  async readArchive(path: string): Promise<ByteSource> {
    const tar = readArchive(this.#files(), path);
    return { kind: "stream", body: this.faults.breaksArchives ? brokenOff(tar) : streamOf(tar) };
  }

  async writeArchive(path: string, body: ReadableStream<Uint8Array>, options: BodyLength): Promise<void> {
    return writeArchive(this.#files(), path, body, options);
  }

  #files(): FakeFiles {
    const { files } = this.used();
    if (this.faults.fileRefusal) throw new ApiError(this.faults.fileRefusal);
    return files;
  }
}

/** Some of the bytes, and then an error. */
function brokenOff(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let isSent = false;
  return new ReadableStream({
    type: "bytes",
    pull(controller) {
      if (isSent) throw new Error("The fake host breaks off.");
      isSent = true;
      controller.enqueue(bytes.slice(0, bytes.length - 1));
    },
  });
}
