import type { Backend, BodyLength, Upload, WriteOptions } from "../backends/backend.ts";
import type { ByteRange } from "../contract/byte-range.ts";
import type { ByteSource, ByteTarget } from "../contract/byte-source.ts";
import type { ErrorCode } from "../contract/errors.ts";
import type { FileInfo, FileList, FileListRequest } from "../contract/file.ts";
import type { Reply } from "../rpc/api-reply.ts";
import { requireNews } from "./host-link.ts";
import { SandboxObject, type SandboxEnv } from "./object.ts";
import type { FileAnswer, Scope } from "./rpc.ts";

/** The calls to a sandbox's object that are for its files. */
export abstract class SandboxFiles<Env extends SandboxEnv = SandboxEnv> extends SandboxObject<Env> {
  readFile(scope: Scope, path: string, range?: ByteRange): Promise<Reply<FileAnswer>> {
    return this.#inContainer(scope, (backend) => backend.readFile(path, range));
  }

  writeFile(scope: Scope, path: string, body: ReadableStream<Uint8Array>, options: WriteOptions): Promise<Reply<void>> {
    return this.#inContainer(scope, (backend) => backend.writeFile(path, body, options));
  }

  stat(scope: Scope, path: string): Promise<Reply<FileInfo>> {
    return this.#inContainer(scope, (backend) => backend.stat(path));
  }

  listFiles(scope: Scope, path: string, request: FileListRequest): Promise<Reply<FileList>> {
    return this.#inContainer(scope, (backend) => backend.list(path, request));
  }

  makeDirectory(scope: Scope, path: string, parents: boolean): Promise<Reply<FileInfo>> {
    return this.#inContainer(scope, (backend) => backend.makeDirectory(path, parents));
  }

  moveFile(scope: Scope, from: string, to: string): Promise<Reply<void>> {
    return this.#inContainer(scope, (backend) => backend.move(from, to));
  }

  removeFile(scope: Scope, path: string, recursive: boolean): Promise<Reply<void>> {
    return this.#inContainer(scope, (backend) => backend.remove(path, recursive));
  }

  watchFiles(scope: Scope, path: string, recursive: boolean, failure?: ErrorCode): Promise<Reply<ByteSource>> {
    return this.#source(scope, failure, (backend) => backend.watch(path, recursive));
  }

  readArchive(scope: Scope, path: string, failure?: ErrorCode): Promise<Reply<ByteSource>> {
    return this.#source(scope, failure, (backend) => backend.readArchive(path));
  }

  writeArchive(scope: Scope, path: string, body: ReadableStream<Uint8Array>, length: BodyLength): Promise<Reply<void>> {
    return this.#inContainer(scope, (backend) => backend.writeArchive(path, body, length));
  }

  uploadTarget(scope: Scope, upload: Upload, failure?: ErrorCode): Promise<Reply<ByteTarget | undefined>> {
    return this.#source(scope, failure, async (backend) => backend.uploadTarget?.(upload));
  }

  #inContainer<T>(scope: Scope, run: (backend: Backend) => Promise<T>): Promise<Reply<T>> {
    return this.operation(scope, async () => run(await this.parts.host.running()));
  }

  /**
   * Where bytes are that the caller asks the host for, or go that it sends there. After a failure there it is asked again only where the host has
   * another address or key by now; else the failure is told, and what it says of the sandbox is looked into.
   */
  #source<T>(scope: Scope, failure: ErrorCode | undefined, open: (backend: Backend) => Promise<T>): Promise<Reply<T>> {
    return this.operation(scope, async () => {
      if (failure) await requireNews(this.parts.host, failure);
      return open(await this.parts.host.running());
    });
  }
}
