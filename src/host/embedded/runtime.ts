import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, readdir, realpath, rm, writeFile } from "node:fs/promises";
import type { Capabilities } from "../../contract/host-info.ts";
import type { ImageTarget, StartSpec } from "../../contract/host-protocol.ts";
import { Launcher } from "../launcher/launcher.ts";
import { ownCpu, ownMemory } from "../inventory/own-resources.ts";
import { networkCapabilities } from "../network/nft.ts";
import { StartFailure, type Bind, type Container, type Prepare, type Resources, type Runtime } from "../runtime.ts";
import { boot } from "./boot.ts";
import { Cgroups } from "./cgroup.ts";
import { openRuntimeDir } from "../runtime-dir.ts";
import { EmbeddedContainer, INSIDE_DIR } from "./container.ts";
import { signalIn } from "./init.ts";
import { KeptStateSchema, writeState } from "./kept-state.ts";
import { HOST_IMAGE, Images } from "./images.ts";
import { isRoot } from "../linux/programs.ts";
import { checkMachine } from "./requirements.ts";
import { fstabs, makeSkeleton, overlayTrees } from "./rootfs.ts";

export interface EmbeddedOptions {
  /** Where containers and snapshots live; made when missing. One daemon at a time. */
  dataDir: string;
  /** Whose registry has the images that travel; without a trailing slash. */
  controlPlaneUrl?: string | undefined;
  /** Where the launchers' FIFOs live; see `runtime-dir.ts`. */
  runtimeDir?: string | undefined;
}

/** Containers from Linux namespaces, overlay mounts and control groups. Throws when this machine cannot make them, saying why. */
export async function openEmbeddedRuntime(options: EmbeddedOptions): Promise<Runtime> {
  await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  await chmod(options.dataDir, 0o700);
  const dataDir = await realpath(options.dataDir);
  await checkMachine(dataDir);
  const images = await Images.open(dataDir, options.controlPlaneUrl);
  await makeSkeleton(dataDir);
  const runtimeDir = options.runtimeDir ?? (await openRuntimeDir(dataDir));
  const [cgroups, network] = await Promise.all([Cgroups.probe(dataDir), networkCapabilities("gated")]);
  return new EmbeddedRuntime(dataDir, runtimeDir, images, cgroups, network);
}

class EmbeddedRuntime implements Runtime {
  readonly kind = "embedded";
  readonly egress = "gated";
  readonly defaultImage = HOST_IMAGE;
  readonly capabilities: Capabilities;
  readonly resources: Resources;
  readonly #dataDir: string;
  readonly #runtimeDir: string;
  readonly #images: Images;
  readonly #cgroups: Cgroups;

  constructor(
    dataDir: string,
    runtimeDir: string,
    images: Images,
    cgroups: Cgroups,
    network: Pick<Capabilities, "network_rules" | "egress_headers">,
  ) {
    this.#dataDir = dataDir;
    this.#runtimeDir = runtimeDir;
    this.#images = images;
    this.#cgroups = cgroups;
    this.resources = { cpu: ownCpu(), memory: ownMemory(), diskDir: dataDir };
    this.capabilities = {
      cpu_limit: cgroups.has("cpu"),
      memory_limit: cgroups.has("memory"),
      gpu: false,
      raw_tcp: false,
      exec_user: isRoot,
      pty: true,
      images: [HOST_IMAGE],
      volumes: true,
      // Without rules a container reaches nobody at all.
      block_network: true,
      ...network,
    };
  }

  async start(spec: StartSpec, binds: readonly Bind[] = [], prepare?: Prepare): Promise<Container> {
    this.#refuseUnsupported(spec);
    const dir = `${this.#dataDir}/sandboxes/${spec.sandbox_id}`;
    const layers = await this.#images.lend(spec, dir);
    const cgroup = this.#cgroups.group(spec.sandbox_id);
    const controlDir = `${this.#runtimeDir}/${spec.sandbox_id}`;
    const deadlineAt = Date.now() + spec.lifetime_ms;
    const container = new EmbeddedContainer({ dir, controlDir, spec, cgroup, images: this.#images, deadlineAt });
    try {
      cgroup.make(spec);
      const { image_source: _, volumes: __, network: ___, ...kept } = spec;
      await writeState(dir, { ...kept, deadline_at: deadlineAt });
      const signalGroup = signalIn(dir);
      const [launcher] = await Promise.all([
        Launcher.create({ controlDir, insideDir: INSIDE_DIR, signalGroup }),
        ...["stage", ...overlayTrees().flatMap((tree) => [`upper/${tree}`, `work/${tree}`])].map((name) =>
          mkdir(`${dir}/${name}`, { recursive: true }),
        ),
      ]);
      const files = Object.entries(fstabs(this.#dataDir, dir, controlDir, layers));
      await Promise.all(files.map(([name, text]) => writeFile(`${dir}/fstab.${name}`, text)));
      await openToAll(dir);
      await boot(
        {
          dir,
          layerDir: this.#images.layerDir,
          cgroups: cgroup.paths,
          image: spec.image,
          binds,
          isGated: prepare !== undefined,
        },
        launcher,
      );
      container.attach(launcher);
      await prepare?.(container);
      if (spec.entrypoint !== undefined) await container.enter(spec.entrypoint);
      await writeFile(`${dir}/started`, "");
      return container;
    } catch (error) {
      await container.stop();
      throw error;
    }
  }

  async recover(): Promise<Container[]> {
    const containers: Container[] = [];
    for (const id of await readdir(`${this.#dataDir}/sandboxes`)) {
      const dir = `${this.#dataDir}/sandboxes/${id}`;
      const cgroup = this.#cgroups.group(id);
      const state = await readFile(`${dir}/state.json`, "utf8").catch(() => undefined);
      if (state === undefined) {
        // The daemon ended before it had begun.
        await cgroup.remove();
        await rm(`${this.#runtimeDir}/${id}`, { recursive: true, force: true });
        await this.#images.discard(dir);
        continue;
      }
      const { deadline_at: deadlineAt, ...spec } = KeptStateSchema.parse(JSON.parse(state));
      const controlDir = `${this.#runtimeDir}/${id}`;
      const container = new EmbeddedContainer({ dir, controlDir, spec, cgroup, images: this.#images, deadlineAt });
      if (!existsSync(`${dir}/started`)) {
        // Its start was cut off, and will be asked for again.
        await container.stop();
        continue;
      }
      await container.recover(signalIn(dir));
      containers.push(container);
    }
    return containers;
  }

  async hasImage(imageId: string): Promise<boolean> {
    return this.#images.has(imageId);
  }

  listImages(): Promise<string[]> {
    return this.#images.list();
  }

  async listReferences(): Promise<string[]> {
    return [HOST_IMAGE];
  }

  async whyNoGpus(): Promise<string> {
    return "the embedded runtime cannot give devices";
  }

  pushImage(imageId: string, target: ImageTarget): Promise<{ uploadedBytes: number }> {
    return this.#images.push(imageId, target);
  }

  removeImage(imageId: string): Promise<void> {
    return this.#images.remove(imageId);
  }

  #refuseUnsupported(spec: StartSpec): void {
    if (spec.gpus) throw new StartFailure("This host cannot give GPUs.");
    if (spec.raw_ports.length > 0) throw new StartFailure("This host cannot publish raw TCP ports.");
    if (spec.cpu !== undefined && !this.capabilities.cpu_limit) throw new StartFailure("This host cannot limit cpu.");
    if (spec.memory !== undefined && !this.capabilities.memory_limit)
      throw new StartFailure("This host cannot limit memory.");
  }
}

/** The root directory of an overlay has the mode of its upper directory. */
async function openToAll(dir: string): Promise<void> {
  await Promise.all(overlayTrees().map((tree) => chmod(`${dir}/upper/${tree}`, 0o755)));
}
