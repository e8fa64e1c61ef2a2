import type { StartSpec, WarmSpec } from "../../contract/host-protocol.ts";
import { type Container, type Prepare, StartFailure, type WarmContainer, type WarmSource } from "../runtime.ts";
import type { DockerContainer } from "./container.ts";
import { type LauncherFolders, markStarted, unmarkStarted } from "./folders.ts";
import { adoptedIdentity } from "./identity.ts";
import { patiently } from "./patience.ts";
import { inspectIfThere } from "./recovery.ts";
import { containerName, type Starter } from "./starter.ts";
import { asStartFailure } from "./start-reason.ts";
import { keepAdoption, keepWarmSpec, readWarmSpec } from "./warm-files.ts";

/** How long what an adoption that failed has left is tried to be removed. */
const DISCARD_MS = 30_000;

/** Starts containers ahead, in the way that all are started, and tells those that an earlier daemon left from the sandboxes'. */
export class DockerWarmSource implements WarmSource {
  readonly #starter: Starter;
  #recovered: WarmContainer[] = [];

  constructor(starter: Starter) {
    this.#starter = starter;
  }

  async prepare(spec: WarmSpec): Promise<void> {
    await this.#starter.parts.images.require(spec).catch((error: unknown) => {
      throw asStartFailure(error);
    });
  }

  async start(spec: WarmSpec): Promise<WarmContainer> {
    // Whoever has it by now must not lose it: a start replaces what has its name.
    if (await inspectIfThere(this.#starter.parts.engine, containerName(spec.warm_id)))
      throw new StartFailure(`${spec.warm_id} has been started before`);
    const container = await this.#starter.start({ ...spec, env: {}, raw_ports: [] });
    try {
      keepWarmSpec(container.folders!, spec);
    } catch (error) {
      await discard(container);
      throw error;
    }
    return new DockerWarm(container, container.folders!, spec);
  }

  recovered(): WarmContainer[] {
    return this.#recovered;
  }

  /** Takes those that are nobody's out of what was found. */
  recover(found: readonly DockerContainer[]): DockerContainer[] {
    this.#recovered = found.flatMap((container) => {
      const { folders } = container;
      const spec = container.isNobodys && folders && readWarmSpec(folders);
      return spec ? [new DockerWarm(container, folders, spec)] : [];
    });
    return found.filter(({ isNobodys }) => !isNobodys);
  }
}

/** A container of the engine's that idles under its launcher, without anything of a sandbox's. */
class DockerWarm implements WarmContainer {
  readonly spec: WarmSpec;
  readonly ended: Promise<unknown>;
  readonly #container: DockerContainer;
  readonly #folders: LauncherFolders;

  constructor(container: DockerContainer, folders: LauncherFolders, spec: WarmSpec) {
    this.spec = spec;
    this.ended = container.exited;
    this.#container = container;
    this.#folders = folders;
  }

  isAlive(): Promise<boolean> {
    return this.#container.isAlive();
  }

  /**
   * First it counts as half started, then it is written down whose it is, then it is prepared and the entrypoint starts, then it counts as started: a
   * daemon that is killed on the way leaves one that the next removes, and never one that is two sandboxes', or nobody's with
   * something in it.
   */
  async adopt(spec: StartSpec, prepare?: Prepare): Promise<Container> {
    if (!this.#container.isNobodys) throw new Error(`${this.spec.warm_id} is a sandbox's already`);
    try {
      await unmarkStarted(this.#folders);
      this.#container.become(adoptedIdentity(keepAdoption(this.#folders, spec)));
      await prepare?.(this.#container);
      if (spec.entrypoint) await this.#container.enter(spec.entrypoint, spec.pty);
      await markStarted(this.#folders);
      return this.#container;
    } catch (error) {
      await discard(this.#container);
      throw error;
    }
  }

  stop(): Promise<void> {
    return this.#container.stop();
  }
}

async function discard(container: DockerContainer): Promise<void> {
  await patiently(() => container.stop(), DISCARD_MS).catch((error: unknown) => {
    console.error("sandbar host: a container that was started ahead could not be removed:", error);
  });
}
