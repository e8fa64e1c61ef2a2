import type { IncomingMessage } from "node:http";
import type { Duplex, Readable } from "node:stream";
import { text } from "node:stream/consumers";
import type {
  ContainerCreateOptions,
  ContainerInspectInfo,
  ExecCreateOptions,
  ExecInspectInfo,
  HostConfig,
  ImageInspectInfo,
  NetworkCreateOptions,
} from "dockerode";
import type { SignalName, TerminalSize } from "../../contract/process.ts";
import { EngineError } from "./engine-error.ts";
import { CALL_TIMEOUT_MS, ImageCalls, SLOW_CALL_TIMEOUT_MS } from "./engine-images.ts";

export { EngineError };

export type {
  ContainerCreateOptions,
  ContainerInspectInfo,
  ExecInspectInfo,
  HostConfig,
  ImageInspectInfo,
  NetworkCreateOptions,
};

/** Engines from API 1.42 on take the size of a terminal at once, others ignore it. */
export type ExecOptions = ExecCreateOptions & { ConsoleSize?: [rows: number, cols: number] };

const WAIT_STATUS = { 200: true, 400: "bad parameter", 404: "no such container", 500: "server error" };

const COMMIT_TIMEOUT_MS = 600_000;

/** What a HEAD of a file in a container says. `mode` holds Go's bits: the low nine are rwxrwxrwx, the top one is "directory". */
export interface FileStat {
  mode: number;
  linkTarget: string;
}

/** What the runtime needs to know of the engine at its start. */
export interface EngineInfo {
  CpuCfsQuota?: boolean;
  MemoryLimit?: boolean;
  SecurityOptions?: string[];
  /** Of the machine that it runs on; `MemTotal` in bytes. */
  NCPU?: number;
  MemTotal?: number;
  DockerRootDir?: string;
  DefaultRuntime?: string;
  Runtimes?: Record<string, unknown>;
  /** From API 1.50 on. */
  DiscoveredDevices?: { Source: string; ID: string }[];
}

/** What a commit lays over the container's own configuration. */
export interface CommitConfig {
  Env: string[];
  Labels: Record<string, string>;
  Entrypoint: string[];
  Cmd: string[];
}

/** The calls of the Docker Engine API that this runtime makes, each with an end. Only this file and that of its images know dockerode. */
export class Engine extends ImageCalls {
  info = (): Promise<EngineInfo> => this.call(CALL_TIMEOUT_MS, () => this.docker.info());

  hasNetwork = async (name: string): Promise<boolean> => {
    try {
      await this.call(CALL_TIMEOUT_MS, () => this.docker.getNetwork(name).inspect());
      return true;
    } catch (error) {
      if (error instanceof EngineError && error.status === 404) return false;
      throw error;
    }
  };

  createNetwork = async (options: NetworkCreateOptions): Promise<void> => {
    await this.call(SLOW_CALL_TIMEOUT_MS, (abortSignal) => this.docker.createNetwork({ ...options, abortSignal }));
  };

  create = async (options: ContainerCreateOptions): Promise<string> =>
    (await this.call(SLOW_CALL_TIMEOUT_MS, (abortSignal) => this.docker.createContainer({ ...options, abortSignal })))
      .id;

  start = (id: string): Promise<void> =>
    this.call(SLOW_CALL_TIMEOUT_MS, (abortSignal) => this.docker.getContainer(id).start({ abortSignal }));

  inspect = (id: string): Promise<ContainerInspectInfo> =>
    this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.getContainer(id).inspect({ abortSignal }));

  /** Waits until the container has ended, at most `timeoutMs`. Rejects at once when the engine goes down meanwhile. */
  wait = (id: string, timeoutMs: number): Promise<{ StatusCode: number }> =>
    this.call(timeoutMs, async (abortSignal) => {
      // The head of the answer comes at once and its body with the end. Of a body that is cut off dockerode itself would never say.
      const options = {
        path: `/containers/${id}/wait`,
        method: "POST",
        abortSignal,
        isStream: true,
        statusCodes: WAIT_STATUS,
      };
      const body = await new Promise<Readable>((done, fail) =>
        this.docker.modem.dial(options, (error, stream) => (error ? fail(error as Error) : done(stream as Readable))),
      );
      return JSON.parse(await text(body)) as { StatusCode: number };
    });

  /** Kills and removes a container with its anonymous volumes. */
  remove = (id: string): Promise<void> =>
    this.call(SLOW_CALL_TIMEOUT_MS, (abortSignal) =>
      this.docker.getContainer(id).remove({ force: true, v: true, abortSignal }),
    );

  /** The ids of all containers with this label, running or not. */
  list = async (label: string): Promise<string[]> => {
    const filters = { label: [label] };
    const found = await this.call(CALL_TIMEOUT_MS, (abortSignal) =>
      this.docker.listContainers({ all: true, filters, abortSignal }),
    );
    return found.map((container) => container.Id);
  };

  /** Undefined when there is no such file. */
  stat = async (id: string, path: string): Promise<FileStat | undefined> => {
    try {
      const response: IncomingMessage = await this.call(CALL_TIMEOUT_MS, (abortSignal) =>
        this.docker.getContainer(id).infoArchive({ path, abortSignal }),
      );
      response.resume();
      const header = String(response.headers["x-docker-container-path-stat"] ?? "");
      return JSON.parse(Buffer.from(header, "base64").toString()) as FileStat;
    } catch (error) {
      if (error instanceof EngineError && error.status === 404) return undefined;
      throw error;
    }
  };

  /** Commits the container, paused meanwhile, to an image without a tag; answers its id. `config` is laid over the container's own. */
  commit = async (id: string, config: CommitConfig): Promise<string> => {
    // dockerode's types lack the form with query and body apart, the one way to send both.
    // Podman reads no configuration from the body, only the instructions.
    const changes = config.Env.map(envInstruction);
    const options = { _query: { container: id, pause: true, changes }, _body: config };
    const { Id } = await this.call(COMMIT_TIMEOUT_MS, (abortSignal) =>
      this.docker.getContainer(id).commit({ ...options, abortSignal }),
    );
    return Id as string;
  };

  /** Prepares a process with the streams that are asked for; answers the id of the exec. */
  createExec = async (id: string, request: ExecOptions): Promise<string> =>
    (await this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.getContainer(id).exec({ ...request, abortSignal })))
      .id;

  /** Starts it; answers the raw connection: stdout and stderr multiplexed, or a terminal's bytes as they are. */
  startExec = (execId: string, options: { isTerminal: boolean }): Promise<Duplex> =>
    this.call(SLOW_CALL_TIMEOUT_MS, (abortSignal) =>
      this.docker
        .getExec(execId)
        .start({ hijack: true, stdin: true, Detach: false, Tty: options.isTerminal, abortSignal }),
    );

  resizeExec = async (execId: string, { rows, cols }: TerminalSize): Promise<void> => {
    await this.call(CALL_TIMEOUT_MS, (abortSignal) =>
      this.docker.getExec(execId).resize({ h: rows, w: cols, abortSignal }),
    );
  };

  /** The entrypoint's output from now on, multiplexed. */
  attach = (id: string): Promise<Duplex> =>
    this.call(CALL_TIMEOUT_MS, async (abortSignal) => {
      const streams = { stream: true, hijack: true, stdin: false, stdout: true, stderr: true, logs: false };
      return (await this.docker.getContainer(id).attach({ ...streams, abortSignal })) as Duplex;
    });

  /** Lets all that runs in the container stand still. */
  pause = async (id: string): Promise<void> => {
    await this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.getContainer(id).pause({ abortSignal }));
  };

  unpause = async (id: string): Promise<void> => {
    await this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.getContainer(id).unpause({ abortSignal }));
  };

  /** Signals the container's first process. */
  kill = async (id: string, signal: SignalName): Promise<void> => {
    await this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.getContainer(id).kill({ signal, abortSignal }));
  };

  inspectExec = (execId: string): Promise<ExecInspectInfo> =>
    this.call(CALL_TIMEOUT_MS, (abortSignal) => this.docker.getExec(execId).inspect({ abortSignal }));
}

/** `KEY=value` as an instruction of a Dockerfile; what the value holds is not expanded. */
function envInstruction(entry: string): string {
  const at = entry.indexOf("=");
  return `ENV ${entry.slice(0, at)}="${entry.slice(at + 1).replaceAll(/["\\$]/g, "\\$&")}"`;
}
