import type { ByteRange } from "../../contract/byte-range.ts";
import type { ByteSource } from "../../contract/byte-source.ts";
import { ApiError } from "../../contract/errors.ts";
import type { FileInfo, FileList, FileListRequest } from "../../contract/file.ts";
import type { BodyLength, FileContent, WriteOptions } from "../backend.ts";
import { readArchive, writeArchive } from "./agent/archive.ts";
import { readFile, writeFile } from "./agent/files.ts";
import { listFiles, makeDirectory, move, remove, stat } from "./agent/tree.ts";
import { watch } from "./agent/watch.ts";
import type { ContainerHost } from "./container-host.ts";

/** The files of a container beside its own object. */
export abstract class CloudflareFiles {
  protected readonly host: ContainerHost;

  constructor(host: ContainerHost) {
    this.host = host;
  }

  readFile(path: string, range?: ByteRange): Promise<FileContent> {
    return this.host.hold((done) => readFile(this.host.agent, path, range, done));
  }

  writeFile(path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<void> {
    return this.host.operate(() => writeFile(this.host.agent, path, body, options));
  }

  stat(path: string): Promise<FileInfo> {
    return this.host.operate(() => stat(this.host.agent, path));
  }

  list(path: string, request: FileListRequest): Promise<FileList> {
    return this.host.operate(() => listFiles(this.host.agent, path, request));
  }

  makeDirectory(path: string, parents: boolean): Promise<FileInfo> {
    return this.host.operate(() => makeDirectory(this.host.agent, path, parents));
  }

  move(from: string, to: string): Promise<void> {
    return this.host.operate(() => move(this.host.agent, from, to));
  }

  remove(path: string, recursive: boolean): Promise<void> {
    return this.host.operate(() => remove(this.host.agent, path, recursive));
  }

  watch(path: string, recursive: boolean): Promise<ByteSource> {
    const isRunning = () => this.host.container.isRunning;
    return this.host.hold(async (done) => ({
      kind: "stream",
      body: await watch(this.host.agent, path, recursive, isRunning, done),
    }));
  }

  readArchive(path: string): Promise<ByteSource> {
    return this.host.hold(async (done) => ({
      kind: "stream",
      body: await readArchive(this.host.agent, path, done),
    }));
  }

  writeArchive(path: string, body: ReadableStream<Uint8Array>, options: BodyLength): Promise<void> {
    return this.host.operate(() => writeArchive(this.host.agent, path, body, options));
  }

  async commitVolumes(): Promise<never> {
    throw noVolumes();
  }

  async reloadVolumes(): Promise<never> {
    throw noVolumes();
  }
}

/** A create that names volumes is refused here, so no container has ever one. */
function noVolumes(): ApiError {
  return new ApiError("unsupported_by_backend", {
    detail: "A sandbox on Cloudflare Containers cannot mount volumes, and this one has none.",
  });
}
