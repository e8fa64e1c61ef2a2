import { Readable } from "node:stream";
import Docker from "dockerode";
import type { ImageInspectInfo } from "dockerode";
import { EngineError, engineError, progressEnd } from "./engine-error.ts";

export const CALL_TIMEOUT_MS = 30_000;
/** Start, remove and commit touch the disk: on a busy machine they take their time. */
export const SLOW_CALL_TIMEOUT_MS = 120_000;
const PULL_TIMEOUT_MS = 600_000;
const LOAD_TIMEOUT_MS = 600_000;
/** A base that the registry lacks goes up with the first snapshot on it. */
const PUSH_TIMEOUT_MS = 3_600_000;

/** Two blocks of zeros end every archive. */
const EMPTY_TAR_BYTES = 1024;

export interface NamedImage {
  names: string[];
  labels: Record<string, string>;
}

/** What a registry asks for. */
export interface RegistryAuth {
  username: string;
  password: string;
  serveraddress: string;
}

/** The calls to the engine that are about images. */
export class ImageCalls {
  protected readonly docker: Docker;

  constructor(socketPath: string | undefined) {
    // A socket kept alive over a restart of the engine fails the next call. By header, not by an `agent`: docker-modem formats
    // its options for a debug log on every call, with all that hangs on them, and an agent holds every open connection.
    const options = { headers: { Connection: "close" }, ...(socketPath ? { socketPath } : {}) };
    this.docker = new Docker(options);
  }

  inspectImage = (reference: string): Promise<ImageInspectInfo> =>
    this.call(CALL_TIMEOUT_MS, () => this.docker.getImage(reference).inspect());

  /** Pulls an image; rejects with the registry's reason. */
  pull = (reference: string, auth?: RegistryAuth): Promise<void> =>
    this.call(PULL_TIMEOUT_MS, async (abortSignal) => {
      // Podman wants to be told that the loopback speaks plain HTTP.
      const options = auth ? { abortSignal, authconfig: auth, tlsVerify: false } : { abortSignal };
      await progressEnd(await this.docker.pull(reference, options));
    });

  /** Pushes an image under a tag that it has; rejects with the registry's reason. */
  push = (name: string, tag: string, auth: RegistryAuth): Promise<void> =>
    this.call(PUSH_TIMEOUT_MS, async (abortSignal) => {
      const options = { tag, authconfig: auth, tlsVerify: false, abortSignal };
      await progressEnd(await this.docker.getImage(name).push(options));
    });

  /** The references of the images of this repository. */
  references = async (repository: string): Promise<string[]> => {
    const filters = { reference: [repository] };
    const found = await this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.listImages({ filters, abortSignal }));
    return found.flatMap(({ RepoTags }) => RepoTags ?? []);
  };

  /** Loads an archive in the form of `docker save`. */
  load = (archive: NodeJS.ReadableStream): Promise<void> =>
    this.call(LOAD_TIMEOUT_MS, async (abortSignal) => {
      await progressEnd(await this.docker.loadImage(archive, { abortSignal }));
    });

  /** Makes an image without a file. */
  importEmpty = (repo: string, tag: string): Promise<void> =>
    this.call(CALL_TIMEOUT_MS, async (abortSignal) => {
      const archive = Readable.from([Buffer.alloc(EMPTY_TAR_BYTES)]);
      await progressEnd(await this.docker.importImage(archive, { repo, tag, abortSignal }));
    });

  /** The images that have a name here: all their names, by tag and by digest, and their labels. */
  namedImages = async (): Promise<NamedImage[]> => {
    const found = await this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.listImages({ abortSignal }));
    return found.map(({ RepoTags, RepoDigests, Labels }) => ({
      names: [...(RepoTags ?? []), ...(RepoDigests ?? [])].filter((name) => !name.includes("<none>")),
      labels: Labels ?? {},
    }));
  };

  /** All names that images have here, by tag and by digest. */
  allReferences = async (): Promise<string[]> => (await this.namedImages()).flatMap(({ names }) => names);

  tag = (image: string, repo: string, tag: string): Promise<void> =>
    this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.getImage(image).tag({ repo, tag, abortSignal }));

  removeImage = async (reference: string, options: { force: boolean }): Promise<void> => {
    await this.call(SLOW_CALL_TIMEOUT_MS, (abortSignal) =>
      this.docker.getImage(reference).remove({ ...options, abortSignal }),
    );
  };

  /** Ends a call that takes too long. The signal is let go of afterwards: it would cut a connection handed on to the caller. */
  protected async call<T>(timeoutMs: number, action: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const expired = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      controller.abort();
      expired.reject(
        new EngineError(`the container engine did not answer within ${timeoutMs / 1000} s`, undefined, undefined),
      );
    }, timeoutMs);
    try {
      return await Promise.race([action(controller.signal), expired.promise]);
    } catch (error) {
      throw error instanceof EngineError ? error : engineError(error);
    } finally {
      clearTimeout(timer);
    }
  }
}
