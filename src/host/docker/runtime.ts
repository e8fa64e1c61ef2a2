import { mkdir, realpath } from "node:fs/promises";
import type { Capabilities, StartSpec } from "../../contract/host-protocol.ts";
import { openRuntimeDir } from "../runtime-dir.ts";
import type { Container, Runtime } from "../runtime.ts";
import { Engine } from "./engine.ts";
import { Folders } from "./folders.ts";
import { removeSnapshot } from "./images.ts";
import { LABELS } from "./labels.ts";
import { requireNetwork } from "./network.ts";
import { patiently } from "./patience.ts";
import { Reach } from "./reach.ts";
import { recoverContainer } from "./recovery.ts";
import { Starter } from "./starter.ts";
import { prepareTools } from "./tools.ts";

export interface DockerRuntimeOptions {
  /** Where tools and the state of containers lie. One daemon at a time. */
  dataDir: string;
  /** Marks this daemon's containers: two hosts on one engine leave each other's alone. */
  hostId: string;
  /** The engine's socket; else `DOCKER_HOST`, else `/var/run/docker.sock`. */
  socketPath?: string;
  /** Where the launchers' FIFOs live; see `runtime-dir.ts`. */
  runtimeDir?: string | undefined;
  /** False: the engine starts every process by itself, as it must where a launcher cannot work. */
  useLauncher?: boolean;
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
    exec_user: true,
    pty: true,
  };
  await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  const dataDir = await realpath(options.dataDir);
  const starter = new Starter({
    engine,
    hostId: options.hostId,
    network: await patiently(() => requireNetwork(engine)),
    folders: new Folders(options.runtimeDir ?? (await openRuntimeDir(dataDir)), dataDir),
    reach: new Reach(await prepareTools(dataDir), options.useLauncher ?? true),
    // Then the container's root is not this daemon's.
    isRemapped: info.SecurityOptions?.some((option) => /^name=(userns|rootless)/.test(option)) ?? false,
  });
  return new DockerRuntime(starter, capabilities);
}

class DockerRuntime implements Runtime {
  readonly kind = "docker";
  readonly defaultImage = "debian:bookworm-slim";
  readonly capabilities: Capabilities;
  readonly #starter: Starter;

  constructor(starter: Starter, capabilities: Capabilities) {
    this.#starter = starter;
    this.capabilities = capabilities;
  }

  start(spec: StartSpec): Promise<Container> {
    return this.#starter.start(spec);
  }

  async recover(): Promise<Container[]> {
    const { engine, hostId, folders } = this.#starter.parts;
    const found: Container[] = [];
    const live = new Set<string>();
    for (const id of await patiently(() => engine.list(`${LABELS.host}=${hostId}`))) {
      const container = await recoverContainer(this.#starter.parts, id);
      if (!container) continue;
      found.push(container);
      live.add(`${container.sandboxId}-${container.generation}`);
    }
    await folders.sweep(live);
    return found;
  }

  removeImage(imageId: string): Promise<void> {
    return removeSnapshot(this.#starter.parts.engine, imageId);
  }
}
