import { mkdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Capabilities } from "../../contract/host-info.ts";
import type { ImageTarget, StartSpec } from "../../contract/host-protocol.ts";
import { openRuntimeDir } from "../runtime-dir.ts";
import { isRoot } from "../linux/programs.ts";
import { networkCapabilities } from "../network/nft.ts";
import { StartFailure, type Bind, type Container, type Prepare, type Resources, type Runtime } from "../runtime.ts";
import { Engine } from "./engine.ts";
import type { DockerContainer } from "./container.ts";
import { Folders } from "./folders.ts";
import { DockerGpus } from "./gpus.ts";
import { sharesKernel } from "./hardening.ts";
import { LocalImages } from "./images.ts";
import { LABELS } from "./labels.ts";
import { requireNetwork } from "./network.ts";
import { patiently } from "./patience.ts";
import { Reach } from "./reach.ts";
import { engineResources } from "./resources.ts";
import { recoverContainer } from "./recovery.ts";
import { RegistryImages } from "./registry-images.ts";
import { Starter } from "./starter.ts";
import { prepareTools } from "./tools.ts";
import { DockerWarmSource } from "./warm-source.ts";

export interface DockerRuntimeOptions {
  /** Where tools and the state of containers lie. One daemon at a time. */
  dataDir: string;
  /** Marks this daemon's containers: two hosts on one engine leave each other's alone. */
  hostId: string;
  /** The engine's socket; else `DOCKER_HOST`, else `/var/run/docker.sock`. */
  socketPath?: string;
  /** Where the launchers' FIFOs live; see `runtime-dir.ts`. */
  runtimeDir?: string | undefined;
  /** Whose registry has the images that travel; without a trailing slash. */
  controlPlaneUrl?: string | undefined;
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
  const reach = new Reach(await prepareTools(dataDir), options.useLauncher ?? true);
  if (reach.hasLauncher) capabilities.warm_pools = true;
  // Then the container's root is not this daemon's.
  const isRemapped = info.SecurityOptions?.some((option) => /^name=(userns|rootless)/.test(option)) ?? false;
  // What the sandbox's users own must be what this daemon may read, and give to them.
  if (reach.hasLauncher && isRoot && !isRemapped) capabilities.volumes = true;
  // They are the kernel's, which must be the containers' own, and set before anything runs in them.
  const sharesThisKernel = sharesKernel({ Runtime: process.env["SANDBAR_OCI_RUNTIME"] ?? info.DefaultRuntime });
  const hindrance = [
    !reach.hasLauncher && "there is no launcher (apt-get install busybox-static)",
    isRemapped && "the engine gives a container's users other numbers",
    !sharesThisKernel && "its containers have a kernel of their own",
  ].find((why) => why !== false);
  Object.assign(capabilities, await networkCapabilities("routed", hindrance));
  const addressFile = `${dataDir}/gateway`;
  await forgetMoving(engine, addressFile);
  const registry = new RegistryImages(engine, options.controlPlaneUrl, (address) => writeFile(addressFile, address));
  const images = new LocalImages(engine, options.hostId, registry, await emptyDraftDir(dataDir));
  const starter = new Starter({
    engine,
    images,
    hostId: options.hostId,
    network: await patiently(() => requireNetwork(engine)),
    folders: new Folders(options.runtimeDir ?? (await openRuntimeDir(dataDir)), dataDir),
    gpus: new DockerGpus(engine, options.hostId, info),
    reach,
    isRemapped,
  });
  return new DockerRuntime(starter, registry, capabilities, await engineResources(info, dataDir));
}

/** What an earlier daemon was moving when it was killed has names of the engine's under the address that it had. */
async function forgetMoving(engine: Engine, addressFile: string): Promise<void> {
  const address = await readFile(addressFile, "utf8").catch(() => undefined);
  if (address === undefined) return;
  const left = (await engine.allReferences()).filter((reference) => reference.startsWith(`${address}/`));
  for (const reference of left) await engine.removeImage(reference, { force: false }).catch(() => undefined);
}

/** What an earlier daemon left there is of no use. */
async function emptyDraftDir(dataDir: string): Promise<string> {
  const dir = `${dataDir}/drafts`;
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { mode: 0o700 });
  return dir;
}

class DockerRuntime implements Runtime {
  readonly kind = "docker";
  readonly defaultImage = "debian:bookworm-slim";
  readonly egress = "routed";
  readonly capabilities: Capabilities;
  readonly warm: DockerWarmSource;
  readonly resources: Resources;
  readonly #starter: Starter;
  readonly #registry: RegistryImages;

  constructor(starter: Starter, registry: RegistryImages, capabilities: Capabilities, resources: Resources) {
    this.#starter = starter;
    this.#registry = registry;
    this.capabilities = capabilities;
    this.warm = new DockerWarmSource(starter);
    this.resources = resources;
  }

  start(spec: StartSpec, binds: readonly Bind[] = [], prepare?: Prepare): Promise<Container> {
    if (binds.length > 0 && !this.capabilities.volumes)
      return Promise.reject(new StartFailure("This host cannot mount volumes."));
    return this.#starter.start(spec, binds, prepare);
  }

  async recover(): Promise<Container[]> {
    const { engine, hostId, folders } = this.#starter.parts;
    const found: DockerContainer[] = [];
    for (const id of await patiently(() => engine.list(`${LABELS.host}=${hostId}`))) {
      const container = await recoverContainer(this.#starter.parts, id);
      if (container) found.push(container);
    }
    await folders.sweep(new Set(found.map((container) => basename(container.folders?.stateDir ?? ""))));
    return this.warm.recover(found);
  }

  async hasImage(imageId: string): Promise<boolean> {
    return (await this.#images.find(imageId)) !== undefined;
  }

  listImages(): Promise<string[]> {
    return this.#images.list();
  }

  listReferences(): Promise<string[]> {
    return this.#images.listReferences();
  }

  whyNoGpus(uuids: readonly string[]): Promise<string | undefined> {
    return this.#starter.parts.gpus.whyNot(uuids);
  }

  pushImage(imageId: string, target: ImageTarget): Promise<{ uploadedBytes: number }> {
    return this.#registry.push(this.#images.referenceOf(imageId), target);
  }

  removeImage(imageId: string): Promise<void> {
    return this.#images.remove(imageId);
  }

  get #images(): LocalImages {
    return this.#starter.parts.images;
  }
}
