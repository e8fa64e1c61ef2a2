import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import type { Duplex } from "node:stream";
import { ApiError, unsupported } from "../../contract/errors.ts";
import { MAIN_PROCESS_ID } from "../../contract/ids.ts";
import { KILLED_RETURNCODE } from "../../contract/process.ts";
import type { ContainerExit, StartSpec } from "../../contract/host-protocol.ts";
import { keepEntrypointCode, readEntrypointCode, startEntrypoint } from "../launcher/entrypoint.ts";
import { adoptLeft } from "../launcher/left-slots.ts";
import { Launcher, type LaunchSpec } from "../launcher/launcher.ts";
import type { LaunchedProcess, SignalGroup } from "../launcher/process.ts";
import { slotOf } from "../launcher/slot.ts";
import { openRootOf } from "../linux/confined.ts";
import { seesEveryFile } from "../linux/rights.ts";
import { openTerminal } from "../linux/terminal.ts";
import { openNetworkOf } from "../network/namespace.ts";
import type { Container, Spawned, SpawnSpec } from "../runtime.ts";
import { Standstill } from "../standstill.ts";
import type { Cgroup } from "./cgroup.ts";
import { Dialer } from "./dial.ts";
import type { Images } from "./images.ts";
import { isRoot } from "../linux/programs.ts";
import { killAndWait, readInit } from "./init.ts";
import { isAlive } from "./machine.ts";

const DEFAULT_WORKDIR = "/";
/** Where a container sees its control directory. */
export const INSIDE_DIR = "/.sandbar";

/** What a container is made of: in `dir` (`dataDir/sandboxes/ID`) layers, upper, work, stage, state.json. */
export interface Parts {
  dir: string;
  /** The launcher's. */
  controlDir: string;
  spec: StartSpec;
  cgroup: Cgroup;
  images: Images;
  /** Milliseconds since 1970. */
  deadlineAt: number;
}

/** A container without an engine. */
export class EmbeddedContainer implements Container {
  readonly sandboxId: string;
  readonly generation: number;
  readonly deadlineAt: number;
  readonly endImage: string | undefined;
  readonly publishedPorts: Record<string, number> = {};
  readonly gpus: readonly string[] = [];
  readonly exited: Promise<Omit<ContainerExit, "deadline">>;
  readonly #exit = Promise.withResolvers<Omit<ContainerExit, "deadline">>();
  readonly #parts: Parts;
  #launcher: Launcher | undefined;
  #main: LaunchedProcess | undefined;
  #leftSlots = new Set<string>();
  #dialer: Dialer | undefined;
  #stopped: Promise<void> | undefined;
  readonly #standstill = new Standstill();

  constructor(parts: Parts) {
    this.#parts = parts;
    this.sandboxId = parts.spec.sandbox_id;
    this.generation = parts.spec.generation;
    this.deadlineAt = parts.deadlineAt;
    this.endImage = parts.spec.end_image;
    this.exited = this.#exit.promise;
  }

  get main(): LaunchedProcess | undefined {
    return this.#main;
  }

  /** Begins to use a container whose first process runs. */
  attach(launcher: Launcher): void {
    this.#launcher = launcher;
    const init = readInit(this.#parts.dir);
    if (init !== undefined) this.#dialer = new Dialer(init.pid, `${this.#parts.dir}/dial.sock`);
    void launcher.gone.then(() => this.#ended(KILLED_RETURNCODE));
  }

  /** Starts the entrypoint. */
  async enter(command: string[]): Promise<void> {
    const { pty, workdir } = this.#parts.spec;
    const spec = { command, env: {}, workdir, pty, input: "none" as const };
    this.#watch(await startEntrypoint(() => this.#launch(spec, MAIN_PROCESS_ID)));
  }

  /** Finds everything of a container as an earlier daemon left it. */
  async recover(signalGroup: SignalGroup): Promise<void> {
    const { dir, controlDir, spec, cgroup } = this.#parts;
    cgroup.thaw();
    const init = readInit(dir);
    if (init === undefined || !isAlive(init) || !existsSync(`${dir}/started`)) return this.#ended(KILLED_RETURNCODE);
    const adopting = Launcher.adopt({ controlDir, insideDir: INSIDE_DIR, signalGroup });
    const launcher = await adopting.catch((error: unknown) => {
      console.error(`sandbar host: the launcher of ${spec.sandbox_id} is out of reach:`, String(error));
    });
    // Nothing can be started in it any more; the others must not suffer for that.
    if (!launcher) return this.#ended(KILLED_RETURNCODE);
    this.attach(launcher);
    this.#leftSlots = new Set(await launcher.leftSlots());
    if (spec.entrypoint === undefined) return;
    if (this.#leftSlots.delete(MAIN_PROCESS_ID)) this.#watch(launcher.adoptSlot(MAIN_PROCESS_ID));
    else this.#ended(readEntrypointCode(dir) ?? KILLED_RETURNCODE);
  }

  spawn(spec: SpawnSpec): Promise<Spawned> {
    if (spec.user !== undefined && !isRoot) throw unsupported("user", "this host has one user only");
    return this.#launch(spec, slotOf(spec.process_id));
  }

  async adopt(processId: string, handle: string | undefined): Promise<Spawned | "unstarted" | undefined> {
    if (!this.#launcher) return undefined;
    return adoptLeft(this.#launcher, this.#leftSlots, slotOf(processId), handle);
  }

  dropUnclaimed(): void {
    for (const slot of this.#leftSlots) this.#launcher?.dropSlot(slot);
    this.#leftSlots.clear();
  }

  oomKills(): number | undefined {
    return this.#parts.cgroup.oomKills;
  }

  openRoot(): number | undefined {
    const init = readInit(this.#parts.dir);
    if (init === undefined || !isAlive(init)) throw new ApiError("sandbox_ended");
    return openRootOf(init.pid, () => isAlive(init));
  }

  openNetwork(): number | undefined {
    const init = readInit(this.#parts.dir);
    if (init === undefined || !isAlive(init)) throw new ApiError("sandbox_ended");
    return isRoot ? openNetworkOf(init.pid, () => isAlive(init)) : undefined;
  }

  seesEveryFile(): boolean {
    const init = readInit(this.#parts.dir);
    return init !== undefined && seesEveryFile(init.pid);
  }

  change<T>(work: () => Promise<T>): Promise<T> {
    return this.#standstill.change(work);
  }

  async dial(port: number): Promise<Duplex> {
    if (this.#dialer === undefined) throw new Error("The container does not run.");
    return this.#dialer.dial(port);
  }

  snapshot(imageId: string): Promise<{ size: number }> {
    const { dir, cgroup, images } = this.#parts;
    return this.#standstill.hold(() => cgroup.frozen(() => images.keep(imageId, dir)));
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop().catch((error: unknown) => {
      this.#stopped = undefined;
      throw error;
    });
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const { dir, controlDir, cgroup, images } = this.#parts;
    const init = readInit(dir);
    cgroup.thaw();
    if (init !== undefined) await killAndWait(init);
    this.#ended(KILLED_RETURNCODE);
    this.#launcher?.close();
    await this.#dialer?.close();
    await cgroup.remove();
    await rm(controlDir, { recursive: true, force: true });
    await images.discard(dir);
  }

  async #launch(spec: Omit<SpawnSpec, "process_id">, slot: string): Promise<LaunchedProcess> {
    const launcher = this.#launcher;
    const init = readInit(this.#parts.dir);
    if (launcher === undefined || init === undefined) throw new Error("The container does not run.");
    const own = this.#parts.spec;
    const env = { ...own.env, ...spec.env };
    const workdir = spec.workdir ?? own.workdir ?? DEFAULT_WORKDIR;
    // The launcher, held still, would seem not to take the slot.
    await this.#standstill.over;
    const terminal = spec.pty && openTerminal(`/proc/${init.pid}/root/dev/pts/ptmx`, spec.pty);
    const launch: LaunchSpec = { ...spec, env, workdir, makeWorkdir: workdir === own.workdir };
    if (terminal) launch.terminal = { terminal, path: `/dev/pts/${terminal.name}` };
    try {
      return await launcher.spawn(launch, slot);
    } catch (error) {
      terminal?.close();
      throw error;
    }
  }

  /** Takes the end of the entrypoint for the end of the container. */
  #watch(main: LaunchedProcess): void {
    this.#main = main;
    keepEntrypointCode(main, this.#parts.dir);
    void main.exited.then((returncode) => this.#ended(returncode ?? KILLED_RETURNCODE));
  }

  #ended(returncode: number): void {
    const { cgroup } = this.#parts;
    this.#exit.resolve({ returncode, oom: returncode === KILLED_RETURNCODE && (cgroup.oomKills ?? 0) > 0 });
  }
}
