import type { Capabilities, StartSpec } from "../../contract/host-protocol.ts";
import { type Container, type Runtime, StartFailure } from "../runtime.ts";
import { openContainer } from "./container.ts";
import { type ContainerCreateOptions, Engine, EngineError } from "./engine.ts";
import { hardenedHostConfig } from "./hardening.ts";
import { removeSnapshot, requireImage } from "./images.ts";
import { LABELS } from "./labels.ts";
import { requireNetwork } from "./network.ts";
import { requireProgram } from "./program.ts";
import { removeContainer } from "./removal.ts";
import { asStartFailure } from "./start-reason.ts";
import { BUSYBOX, prepareTools, TOOLS_MOUNT } from "./tools.ts";

const IDLE_SECONDS = "2147483647";

export interface DockerRuntimeOptions {
  dataDir: string;
  /** Marks this daemon's containers: two hosts on one engine leave each other's alone. */
  hostId: string;
  /** The engine's socket; else `DOCKER_HOST`, else `/var/run/docker.sock`. */
  socketPath?: string;
}

/** Runs sandboxes on a Docker Engine (API 1.41 or newer) or a Podman that speaks it. Rejects when none answers. */
export async function openDockerRuntime(options: DockerRuntimeOptions): Promise<Runtime> {
  const engine = new Engine(options.socketPath);
  const info = await engine.info().catch((error: Error) => {
    const where = options.socketPath ?? process.env["DOCKER_HOST"] ?? "/var/run/docker.sock";
    throw new Error(`no container engine answers at ${where}: ${error.message || "no connection"}`, { cause: error });
  });
  const capabilities: Capabilities = {
    cpu_limit: info.CpuCfsQuota ?? false,
    memory_limit: info.MemoryLimit ?? false,
    gpu: false,
    raw_tcp: true,
  };
  const network = await requireNetwork(engine);
  return new DockerRuntime(engine, options.hostId, capabilities, network, await prepareTools(options.dataDir));
}

class DockerRuntime implements Runtime {
  readonly kind = "docker";
  readonly defaultImage = "debian:bookworm-slim";
  readonly capabilities: Capabilities;
  readonly #engine: Engine;
  readonly #hostId: string;
  readonly #network: string;
  /** Undefined once the engine has said that it cannot see this machine's folders. */
  #toolsFolder: string | undefined;
  /** False once the engine has said that its own limit of open files is lower than ours. */
  #limitFiles = true;

  constructor(
    engine: Engine,
    hostId: string,
    capabilities: Capabilities,
    network: string,
    toolsFolder: string | undefined,
  ) {
    this.#engine = engine;
    this.#hostId = hostId;
    this.#network = network;
    this.capabilities = capabilities;
    this.#toolsFolder = toolsFolder;
  }

  async start(spec: StartSpec): Promise<Container> {
    // Of this start: others may find out meanwhile that the engine cannot raise it.
    const limitFiles = this.#limitFiles;
    const name = `sandbar-${spec.sandbox_id}-${spec.generation}`;
    try {
      const image = await requireImage(this.#engine, spec.image);
      const command = await this.#create(name, spec, image.reference, limitFiles);
      const env = [...(image.info.Config.Env ?? []), ...environment(spec)];
      if (command[0] !== BUSYBOX) {
        const workdir = spec.workdir ?? image.info.Config.WorkingDir;
        await this.#requireProgram(name, spec, command, { env, workdir });
      }
      await this.#engine.start(name);
      return await openContainer(this.#engine, await this.#engine.inspect(name));
    } catch (error) {
      await removeContainer(this.#engine, name).catch(() => undefined);
      if (limitFiles && error instanceof EngineError && /rlimit/i.test(error.message)) {
        this.#limitFiles = false;
        return this.start(spec);
      }
      throw asStartFailure(error);
    }
  }

  async recover(): Promise<Container[]> {
    const found: Container[] = [];
    for (const id of await this.#engine.list(`${LABELS.host}=${this.#hostId}`)) {
      const info = await this.#engine.inspect(id).catch(() => undefined);
      if (!info) continue;
      // Made but never started: its start was cut off, and will be asked for again.
      if (info.State.Status === "created" || info.State.Status === "configured")
        await removeContainer(this.#engine, id);
      else found.push(await openContainer(this.#engine, info));
    }
    return found;
  }

  removeImage(imageId: string): Promise<void> {
    return removeSnapshot(this.#engine, imageId);
  }

  /** Creates the container, over what an earlier attempt left; answers what it will run. */
  async #create(name: string, spec: StartSpec, reference: string, limitFiles: boolean): Promise<string[]> {
    for (let attempt = 1; ; attempt++) {
      const tools = this.#toolsFolder;
      const command = spec.entrypoint ?? (tools ? [BUSYBOX, "sleep", IDLE_SECONDS] : ["sleep", "infinity"]);
      try {
        await this.#engine.create(this.#options(name, spec, reference, command, tools, limitFiles));
        return command;
      } catch (error) {
        if (!(error instanceof EngineError) || attempt > 3) throw error;
        // Podman says 500 of a name that is taken.
        if (error.status === 409 || /name .* already in use/.test(error.message))
          await removeContainer(this.#engine, name);
        else if (tools && /bind source path does not exist|statfs .*no such file|invalid mount/i.test(error.message)) {
          // The engine is on another machine: its containers idle by their image's own `sleep`.
          this.#toolsFolder = undefined;
        } else throw error;
      }
    }
  }

  async #requireProgram(name: string, spec: StartSpec, command: string[], options: { env: string[]; workdir: string }) {
    try {
      await requireProgram(this.#engine, name, command[0] ?? "", options);
    } catch (error) {
      if (spec.entrypoint || !(error instanceof StartFailure)) throw error;
      const advice =
        "this image has no `sleep` to idle with: install a static busybox on the host (busybox-static) or give an entrypoint";
      throw new StartFailure(advice, { cause: error });
    }
  }

  #options(
    name: string,
    spec: StartSpec,
    reference: string,
    command: string[],
    tools: string | undefined,
    limitFiles: boolean,
  ): ContainerCreateOptions {
    const ports = spec.raw_ports.map((port) => `${port}/tcp`);
    return {
      name,
      Image: reference,
      // All of it as the entrypoint: the image's own ENTRYPOINT and CMD have no say.
      Entrypoint: command,
      Cmd: [],
      Healthcheck: { Test: ["NONE"] },
      Env: environment(spec),
      ...(spec.workdir ? { WorkingDir: spec.workdir } : {}),
      Labels: {
        [LABELS.host]: this.#hostId,
        [LABELS.sandbox]: spec.sandbox_id,
        [LABELS.environment]: spec.environment,
        [LABELS.generation]: String(spec.generation),
        [LABELS.deadline]: String(spec.deadline_at),
      },
      ExposedPorts: Object.fromEntries(ports.map((port) => [port, {}])),
      HostConfig: {
        ...hardenedHostConfig(spec, { limitFiles }),
        NetworkMode: this.#network,
        // An empty number lets the engine choose a free one.
        PortBindings: Object.fromEntries(ports.map((port) => [port, [{ HostPort: "" }]])),
        Mounts: tools ? [{ Type: "bind", Source: tools, Target: TOOLS_MOUNT, ReadOnly: true }] : [],
      },
    };
  }
}

function environment(spec: StartSpec): string[] {
  return Object.entries(spec.env).map(([name, value]) => `${name}=${value}`);
}
