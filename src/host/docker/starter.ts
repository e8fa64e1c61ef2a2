import { unsupported } from "../../contract/errors.ts";
import { type Bind, type Prepare, StartFailure } from "../runtime.ts";
import { withTimeLimit } from "../time-limit.ts";
import { AttachedMain } from "./attached-main.ts";
import { ContainerLauncher } from "./container-launcher.ts";
import { DockerContainer } from "./container.ts";
import { type BuildSpec, createOptions, firstProcess, type Plan } from "./create-options.ts";
import { type Engine, EngineError, type ImageInspectInfo } from "./engine.ts";
import { type Folders, markStarted } from "./folders.ts";
import type { DockerGpus } from "./gpus.ts";
import type { LocalImages } from "./images.ts";
import { neverArrived, patiently } from "./patience.ts";
import { requireProgram } from "./program.ts";
import type { Reach } from "./reach.ts";
import { removeContainer, removeForSure } from "./removal.ts";
import { asStartFailure } from "./start-reason.ts";
import { BUSYBOX } from "./tools.ts";

/** How long the first launcher of all may take to say a word, before it counts as unable to. */
const FIRST_WORD_MS = 5_000;
/** A sandbox with less says nothing about the engine when its launcher fails. */
const TELLING_MEMORY_MIB = 64;
const TELLING_CPU = 0.1;
const WORD_MS = 30_000;
const MAX_ATTEMPTS = 5;
/** What would start the entrypoint of the sandbox, and its processes with its variables. */
const NO_WARM = "nothing can be started ahead on this host: its engine cannot use the launcher";
const NO_PREPARING = "the network of a sandbox cannot be prepared on this host: its engine cannot use the launcher";
/** How long what is left of a start that failed is tried to be removed. */
const DISCARD_MS = 30_000;

export interface StarterParts {
  engine: Engine;
  images: LocalImages;
  hostId: string;
  network: string;
  folders: Folders;
  reach: Reach;
  gpus: DockerGpus;
  /** Whether the container's users are others on this machine. */
  isRemapped: boolean;
}

/** Starts containers, in the way that this engine can. */
export class Starter {
  readonly parts: StarterParts;

  constructor(parts: StarterParts) {
    this.parts = parts;
  }

  /** Throws {@link StartFailure}, and leaves nothing behind whenever it throws. */
  async start(spec: BuildSpec, binds: readonly Bind[] = [], prepare?: Prepare): Promise<DockerContainer> {
    const { engine, images, reach } = this.parts;
    let isMade = false;
    try {
      const image = await images.require(spec);
      for (let attempt = 1; ; attempt++) {
        const plan = this.#plan(spec, image.reference, binds);
        if ("warm_id" in spec && !plan.controlDir) throw new StartFailure(NO_WARM);
        if (prepare && !plan.controlDir) throw new StartFailure(NO_PREPARING);
        isMade = true;
        try {
          const started = await (plan.controlDir
            ? this.#launch(plan, image.info, prepare)
            : this.#run(plan, image.info));
          if (started) return started;
        } catch (error) {
          const isOver = attempt === MAX_ATTEMPTS || !(error instanceof EngineError) || !reach.learn(error, plan);
          if (isOver) throw error;
        }
      }
    } catch (error) {
      // Whoever is told that it failed gives the devices to another.
      if (spec.gpus && isMade) await removeForSure(engine, nameOf(spec));
      throw asStartFailure(error);
    }
  }

  /** With a launcher as the first process; undefined when that has turned out not to work here. */
  async #launch(plan: Plan, image: ImageInspectInfo, prepare?: Prepare): Promise<DockerContainer | undefined> {
    const { engine, images, reach, isRemapped } = this.parts;
    const { spec } = plan;
    const folders = this.parts.folders.of(folderName(spec));
    const launcher = await ContainerLauncher.create(folders, { user: image.Config.User, isRemapped });
    let container: DockerContainer | undefined;
    try {
      await this.#create(plan);
    } catch (error) {
      await launcher.remove();
      throw error;
    }
    try {
      await engine.start(plan.name);
      container = new DockerContainer({ engine, images, info: await engine.inspect(plan.name), folders, launcher });
      if (await this.#isReady(spec, launcher, container)) {
        reach.launcherWorks();
        await prepare?.(container);
        if (spec.entrypoint) await container.enter(spec.entrypoint, spec.pty);
        await markStarted(folders);
        return container;
      }
      if (reach.isLauncherProven || !isTelling(spec)) throw new StartFailure("The sandbox's launcher does not start.");
      reach.giveUpLauncher("a container does not share FIFOs with this machine");
      await this.#discard(plan.name, launcher, container);
      return undefined;
    } catch (error) {
      await this.#discard(plan.name, launcher, container);
      throw error;
    }
  }

  /** The engine runs the entrypoint, or something that idles. */
  async #run(plan: Plan, image: ImageInspectInfo): Promise<DockerContainer> {
    const { engine, images } = this.parts;
    const { name, spec } = plan;
    if (spec.pty) throw unsupported("pty", "this host cannot give an entrypoint a terminal");
    await this.#create(plan);
    try {
      await this.#requireProgram(plan, image);
      // Before the start, so that no byte is missed.
      const connection = spec.entrypoint && (await engine.attach(name));
      await engine.start(name);
      const info = await engine.inspect(name);
      const attached = connection && new AttachedMain(engine, info.Id, connection);
      return new DockerContainer({ engine, images, info, attached });
    } catch (error) {
      await this.#discard(name);
      throw error;
    }
  }

  async #isReady(spec: BuildSpec, launcher: ContainerLauncher, container: DockerContainer): Promise<boolean> {
    const isPatient = this.parts.reach.isLauncherProven || !isTelling(spec);
    const limitMs = isPatient ? WORD_MS : FIRST_WORD_MS;
    const word = Promise.race([launcher.ready.then(() => true), container.exited.then(() => false)]);
    return withTimeLimit(word, limitMs, () => new Error("late")).catch(() => false);
  }

  /** Creates the container, over what an earlier attempt left. Leaves nothing behind when it throws. */
  async #create(plan: Plan): Promise<void> {
    const { engine } = this.parts;
    for (let attempt = 1; ; attempt++) {
      try {
        await engine.create(createOptions(plan));
        return;
      } catch (error) {
        // Podman says 500 of a name that is taken.
        const isTaken =
          error instanceof EngineError && (error.status === 409 || /name .* already in use/.test(error.message));
        if (!isTaken || attempt > 3) {
          if (!neverArrived(error)) await this.#discard(plan.name);
          throw error;
        }
        await removeContainer(engine, plan.name);
      }
    }
  }

  async #requireProgram(plan: Plan, image: ImageInspectInfo): Promise<void> {
    const { engine } = this.parts;
    const { spec } = plan;
    const [program = ""] = firstProcess(plan);
    if (program === BUSYBOX) return;
    const env = [...(image.Config.Env ?? []), ...(createOptions(plan).Env ?? [])];
    try {
      await requireProgram(engine, plan.name, program, { env, workdir: spec.workdir ?? image.Config.WorkingDir });
    } catch (error) {
      if (spec.entrypoint || !(error instanceof StartFailure)) throw error;
      const advice =
        "this image has no `sleep` to idle with: install a static busybox on the host (busybox-static) or give an entrypoint";
      throw new StartFailure(advice, { cause: error });
    }
  }

  /** An engine that went down in the middle may have made it all the same: it is waited for, for a while. */
  async #discard(name: string, launcher?: ContainerLauncher, container?: DockerContainer): Promise<void> {
    const remove = () => container?.stop() ?? removeContainer(this.parts.engine, name);
    await patiently(remove, DISCARD_MS).catch(() => undefined);
    await launcher?.remove();
  }

  #plan(spec: BuildSpec, reference: string, binds: readonly Bind[]): Plan {
    const { hostId, network, reach, folders } = this.parts;
    const { limitFiles, tools } = reach;
    const controlDir = reach.hasLauncher ? folders.of(folderName(spec)).controlDir : undefined;
    const gpus = this.parts.gpus.settings(spec.gpus);
    return { name: nameOf(spec), spec, reference, hostId, network, gpus, binds, limitFiles, tools, controlDir };
  }
}

/** What the engine calls the container of these folders. */
export const containerName = (folderName: string): string => `sandbar-${folderName}`;

function folderName(spec: BuildSpec): string {
  return "warm_id" in spec ? spec.warm_id : `${spec.sandbox_id}-${spec.generation}`;
}

const nameOf = (spec: BuildSpec) => containerName(folderName(spec));

const isTelling = ({ memory, cpu }: BuildSpec): boolean =>
  (memory ?? TELLING_MEMORY_MIB) >= TELLING_MEMORY_MIB && (cpu ?? TELLING_CPU) >= TELLING_CPU;
