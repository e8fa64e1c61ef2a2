import { closeSync } from "node:fs";
import type { Duplex } from "node:stream";
import { ApiError, unsupported } from "../../contract/errors.ts";
import type { ContainerExit, StartSpec } from "../../contract/host-protocol.ts";
import { dialAcross, dialIn } from "../network/namespace.ts";
import { readEntrypointCode } from "../launcher/entrypoint.ts";
import { TERM } from "../linux/terminal.ts";
import type { Container, Spawned, SpawnSpec } from "../runtime.ts";
import { Standstill } from "../standstill.ts";
import type { AttachedMain } from "./attached-main.ts";
import { ContainerExitWatch } from "./container-exit.ts";
import type { ContainerLauncher } from "./container-launcher.ts";
import type { ContainerInspectInfo, Engine } from "./engine.ts";
import type { ExecContext } from "./exec-context.ts";
import { adoptExec, spawnExec } from "./exec.ts";
import { endedProcess } from "./exec-output.ts";
import { type LauncherFolders, removeFolders } from "./folders.ts";
import { gpusOf } from "./gpus.ts";
import { signalInside } from "./group-signal.ts";
import { sharesKernel } from "./hardening.ts";
import { type Identity, identityOf, NOBODYS } from "./identity.ts";
import type { LocalImages } from "./images.ts";
import { KernelView } from "./kernel-view.ts";
import { publishedPorts } from "./published-ports.ts";
import { removeContainer } from "./removal.ts";
import { snapshotContainer } from "./snapshot.ts";
import { TOOLS_MOUNT } from "./tools.ts";

const EXEC_ID = /^[0-9a-f]{64}$/;

/** What starts the processes of a container, beside the engine. */
export interface ContainerParts {
  engine: Engine;
  images: LocalImages;
  info: ContainerInspectInfo;
  /** Of a container that was made with a launcher, also where that is no more. */
  folders?: LauncherFolders | undefined;
  launcher?: ContainerLauncher | undefined;
  /** The entrypoint, where the engine runs it. */
  attached?: AttachedMain | undefined;
}

/** A started container of the engine, new or found again. */
export class DockerContainer implements Container {
  readonly publishedPorts: Record<string, number>;
  readonly gpus: readonly string[];
  readonly exited: Promise<Omit<ContainerExit, "deadline">>;
  readonly #parts: ContainerParts;
  readonly #address: string | undefined;
  readonly #execContext: ExecContext;
  readonly #exit: ContainerExitWatch;
  readonly #standstill = new Standstill();
  #identity: Identity;
  #main: Spawned | undefined;
  #stopped: Promise<void> | undefined;

  constructor(parts: ContainerParts) {
    const { engine, info, launcher, attached } = parts;
    const view = KernelView.open(info.Id, info.State.Running ? info.State.Pid : 0);
    this.#parts = parts;
    this.#identity = identityOf(info.Config.Labels, parts.folders);
    this.publishedPorts = publishedPorts(info);
    this.gpus = gpusOf(info.HostConfig);
    this.#address = Object.values(info.NetworkSettings.Networks)[0]?.IPAddress || undefined;
    this.#exit = new ContainerExitWatch(engine, info.Id, view, parts.folders !== undefined);
    this.exited = this.#exit.exited;
    this.#execContext = {
      engine,
      containerId: info.Id,
      containerEnded: this.exited,
      isStopping: () => this.#stopped !== undefined,
      view,
      hasTools: info.Mounts.some((mount) => mount.Destination === TOOLS_MOUNT),
    };
    if (attached) {
      this.#main = attached;
      void this.exited.then(({ returncode }) => attached.ended(this.#stopped ? undefined : returncode));
    }
    launcher?.attach(info, view, async (pid, signal) => {
      // What has no pid on this machine, and may not be signalled by it, is signalled from inside.
      if (view?.canSignal) return view.signalInside(pid, signal);
      return signalInside(engine, { containerId: info.Id, pid, signal });
    });
    void launcher?.gone.then(() => this.#exit.force());
  }

  get sandboxId(): string {
    return this.#identity.sandboxId;
  }

  get generation(): number {
    return this.#identity.generation;
  }

  get deadlineAt(): number {
    return this.#identity.deadlineAt;
  }

  get endImage(): string | undefined {
    return this.#identity.endImage;
  }

  get main(): Spawned | undefined {
    return this.#main;
  }

  get folders(): LauncherFolders | undefined {
    return this.#parts.folders;
  }

  /** Whether it was started ahead, and no sandbox has it yet. */
  get isNobodys(): boolean {
    return this.#identity === NOBODYS;
  }

  /** Whether it runs, asked of who knows best. */
  async isAlive(): Promise<boolean> {
    const { view, engine, containerId } = this.#execContext;
    if (this.#stopped || this.#exit.hasEnded) return false;
    return view ? view.isAlive() : (await engine.inspect(containerId)).State.Running;
  }

  /** It was nobody's, and is a sandbox's now. */
  become(identity: Identity): void {
    this.#identity = identity;
  }

  /** Starts the entrypoint by the launcher. Throws {@link StartFailure}, and `unsupported_by_backend` without a terminal. */
  async enter(command: string[], pty: StartSpec["pty"]): Promise<void> {
    const { launcher } = this.#parts;
    const terminal = pty && launcher?.openTerminal(pty);
    if (pty && !terminal) throw unsupported("pty", "this host cannot give an entrypoint a terminal");
    const main = await launcher!.enter(command, this.#withOwnEnv({ env: {}, pty }).env, terminal);
    this.#main = main;
    void main.exited.then((returncode) => this.#exit.tell(returncode));
  }

  /** Finds the entrypoint as an earlier daemon left it. */
  recoverMain(): void {
    const { folders, launcher } = this.#parts;
    if (!folders || !this.#identity.hasEntrypoint) return;
    const main = launcher?.adoptMain();
    const returncode = readEntrypointCode(folders.stateDir);
    if (main) void main.exited.then((code) => this.#exit.tell(code));
    else if (returncode !== undefined || launcher) this.#exit.tell(returncode);
    this.#main = main ?? (returncode === undefined ? undefined : endedProcess(returncode));
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop().catch((error: unknown) => {
      // The next call tries again.
      this.#stopped = undefined;
      throw error;
    });
    return this.#stopped;
  }

  /** A launcher that stands still would seem not to take what is just being started. */
  spawn(spec: SpawnSpec): Promise<Spawned> {
    return this.change(() => this.#spawn(spec));
  }

  change<T>(work: () => Promise<T>): Promise<T> {
    return this.#standstill.change(work);
  }

  async adopt(processId: string, handle: string | undefined): Promise<Spawned | "unstarted" | undefined> {
    const launched = await this.#parts.launcher?.adopt(processId, handle);
    if (launched || !handle || !EXEC_ID.test(handle)) return launched;
    return adoptExec(this.#execContext, processId, handle);
  }

  /** An exec of the engine's that nobody asks for cannot be told from a person's own `docker exec`: it is left alone. */
  dropUnclaimed(): void {
    this.#parts.launcher?.dropUnclaimed();
  }

  oomKills(): number | undefined {
    return this.#exit.oomKills();
  }

  openRoot(): number | undefined {
    if (this.#stopped || this.#exit.hasEnded) throw new ApiError("sandbox_ended");
    return sharesKernel(this.#parts.info.HostConfig) ? this.#execContext.view?.openRoot() : undefined;
  }

  seesEveryFile(): boolean {
    return this.#execContext.view?.seesEveryFile() ?? false;
  }

  openNetwork(): number | undefined {
    if (this.#stopped || this.#exit.hasEnded) throw new ApiError("sandbox_ended");
    return sharesKernel(this.#parts.info.HostConfig) ? this.#execContext.view?.openNetwork() : undefined;
  }

  /**
   * Goes to the container's own address, so the host must share the engine's network: Docker Desktop's machine does not. To a published
   * port from inside, as its rules may not let this machine in.
   */
  async dial(port: number): Promise<Duplex> {
    if (!this.#address) throw new Error("the container has ended, or has no address on this host");
    const namespace = port in this.publishedPorts ? this.openNetwork() : undefined;
    if (namespace === undefined) return dialAcross(this.#address, port);
    return dialIn(namespace, port, this.#address).finally(() => closeSync(namespace));
  }

  snapshot(imageId: string): Promise<{ size: number }> {
    const { engine, images, info } = this.#parts;
    return this.#standstill.hold((moves) => snapshotContainer(engine, info.Id, images.namesOf(imageId), moves));
  }

  async #spawn(asked: SpawnSpec): Promise<Spawned> {
    const { launcher } = this.#parts;
    const spec = this.#withOwnEnv(asked);
    if (this.#stopped || this.#exit.hasEnded) throw new ApiError("sandbox_ended");
    // The engine knows how to find a user in every image.
    if (!launcher || spec.user !== undefined) return spawnExec(this.#execContext, spec);
    if (!spec.pty) return launcher.spawn(spec);
    const terminal = launcher.openTerminal(spec.pty);
    return terminal ? launcher.spawn(spec, terminal) : spawnExec(this.#execContext, spec);
  }

  /** With the variables that the container itself lacks, as if it had them: a terminal's own, and then the process's, come over them. */
  #withOwnEnv<T extends Pick<SpawnSpec, "env" | "pty">>(spec: T): T {
    return { ...spec, env: { ...this.#identity.env, ...(spec.pty && { TERM }), ...spec.env } };
  }

  async #stop(): Promise<void> {
    const { engine, info, folders, launcher } = this.#parts;
    await removeContainer(engine, info.Id);
    if (launcher) await launcher.remove();
    else if (folders) await removeFolders(folders);
  }
}
