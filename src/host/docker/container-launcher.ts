import { closeSync, constants, fchownSync, fstatSync, openSync } from "node:fs";
import { ApiError } from "../../contract/errors.ts";
import type { TerminalSize } from "../../contract/process.ts";
import { MAIN_PROCESS_ID } from "../../contract/ids.ts";
import { keepEntrypointCode, startEntrypoint } from "../launcher/entrypoint.ts";
import { adoptLeft } from "../launcher/left-slots.ts";
import { Launcher, type LauncherOptions, type LaunchSpec } from "../launcher/launcher.ts";
import type { LaunchedProcess, SignalGroup } from "../launcher/process.ts";
import { slotOf } from "../launcher/slot.ts";
import { openTerminal, type Terminal } from "../linux/terminal.ts";
import type { Spawned, SpawnSpec } from "../runtime.ts";
import { settlesWithin } from "../time-limit.ts";
import type { ContainerInspectInfo } from "./engine.ts";
import { type LauncherFolders, makeFolders, removeFolders } from "./folders.ts";
import type { KernelView } from "./kernel-view.ts";
import { CONTROL_MOUNT } from "./tools.ts";

/** What the launcher's shell keeps for itself of the environment it was started with, or cannot hold at all. */
const LOST_ON_SHELL =
  /^(IFS|PWD|OLDPWD|OPTIND|OPTARG|PPID|SHLVL|LINENO|RANDOM|SECONDS|EPOCH\w*|__.*)$|^(?![A-Za-z_]\w*$)/;
const ROOT_USER = /^(root|0)?(:.*)?$/;
/** Of the devices that terminals are. */
const TERMINAL_MAJOR = 136;

/** A launcher's container: what is known of it only once it runs. */
interface Inside {
  view: KernelView | undefined;
  signalGroup: SignalGroup;
  workdir: string;
  env: Record<string, string>;
}

/** The launcher of one container, on the host's side. */
export class ContainerLauncher {
  readonly folders: LauncherFolders;
  readonly #launcher: Launcher;
  readonly #inside: { now: Inside | undefined };
  #leftSlots = new Set<string>();

  private constructor(folders: LauncherFolders, launcher: Launcher, inside: { now: Inside | undefined }) {
    this.folders = folders;
    this.#launcher = launcher;
    this.#inside = inside;
  }

  /** For a container that is about to be made. `user` is its user, as its image names it. */
  static async create(folders: LauncherFolders, options: { user: string; isRemapped: boolean }) {
    await makeFolders(folders);
    const inside = { now: undefined };
    return new ContainerLauncher(folders, await Launcher.create(launcherOptions(folders, options, inside)), inside);
  }

  /** For a container that runs. */
  static async adopt(folders: LauncherFolders, options: { user: string; isRemapped: boolean }) {
    const inside = { now: undefined };
    const launcher = await Launcher.adopt(launcherOptions(folders, options, inside));
    const adopted = new ContainerLauncher(folders, launcher, inside);
    adopted.#leftSlots = new Set(await launcher.leftSlots());
    return adopted;
  }

  /** Resolves when the launcher takes commands. */
  get ready(): Promise<void> {
    return this.#launcher.ready;
  }

  /** Resolves when nothing can be started any more: the container has ended, or has broken its own launcher. */
  get gone(): Promise<void> {
    return this.#launcher.gone;
  }

  /** Its container runs. */
  attach(info: ContainerInspectInfo, view: KernelView | undefined, signalGroup: SignalGroup): void {
    const entries = (info.Config.Env ?? []).map((entry) => [
      entry.slice(0, entry.indexOf("=")),
      entry.slice(entry.indexOf("=") + 1),
    ]);
    const env = Object.fromEntries(entries.filter(([name]) => LOST_ON_SHELL.test(name!)));
    this.#inside.now = { view, signalGroup, workdir: info.Config.WorkingDir || "/", env };
  }

  /** Starts the entrypoint. Throws {@link StartFailure} when it does not run. */
  async enter(
    command: string[],
    env: Record<string, string>,
    terminal: Terminal | undefined,
  ): Promise<LaunchedProcess> {
    const main = await startEntrypoint(() => this.#launch({ command, env, input: "none" }, MAIN_PROCESS_ID, terminal));
    keepEntrypointCode(main, this.folders.stateDir);
    return main;
  }

  /** The entrypoint as an earlier daemon left it; undefined when its slot is done with. */
  adoptMain(): LaunchedProcess | undefined {
    if (!this.#leftSlots.delete(MAIN_PROCESS_ID)) return undefined;
    const main = this.#launcher.adoptSlot(MAIN_PROCESS_ID);
    keepEntrypointCode(main, this.folders.stateDir);
    return main;
  }

  spawn(spec: SpawnSpec, terminal?: Terminal): Promise<LaunchedProcess> {
    return this.#launch(spec, slotOf(spec.process_id), terminal);
  }

  adopt(processId: string, handle: string | undefined): Promise<Spawned | "unstarted" | undefined> {
    return adoptLeft(this.#launcher, this.#leftSlots, slotOf(processId), handle);
  }

  dropUnclaimed(): void {
    for (const slot of this.#leftSlots) this.#launcher.dropSlot(slot);
    this.#leftSlots.clear();
  }

  /** Makes a terminal in the container, of this size; undefined where this daemon cannot reach into it. */
  openTerminal(size: TerminalSize): Terminal | undefined {
    const view = this.#inside.now?.view;
    if (!view?.canSignal) return undefined;
    const devices = `/proc/${view.initPid}/root/dev/pts`;
    let terminal: Terminal | undefined;
    try {
      terminal = openTerminal(`${devices}/ptmx`, size);
      if (view.uid !== 0) giveTerminal(`${devices}/${terminal.name}`, view.uid);
      return terminal;
    } catch {
      terminal?.close();
      return undefined;
    }
  }

  /** Lets go of everything, also on disk. The container must be gone. */
  async remove(): Promise<void> {
    this.#launcher.close();
    await removeFolders(this.folders);
  }

  async #launch(
    spec: Omit<SpawnSpec, "process_id">,
    slot: string,
    terminal: Terminal | undefined,
  ): Promise<LaunchedProcess> {
    const inside = this.#inside.now;
    if (!inside) throw new Error("The container does not run.");
    const env = { ...inside.env, ...spec.env };
    const launch: LaunchSpec = { ...spec, user: undefined, env, workdir: spec.workdir ?? inside.workdir };
    if (terminal) launch.terminal = { terminal, path: `/dev/pts/${terminal.name}` };
    try {
      return await this.#launcher.spawn(launch, slot);
    } catch (error) {
      terminal?.close();
      // A launcher that breaks ends its container.
      if (await settlesWithin(this.gone, 0)) throw new ApiError("sandbox_ended", { cause: error });
      throw error;
    }
  }
}

function launcherOptions(
  { controlDir }: LauncherFolders,
  { user, isRemapped }: { user: string; isRemapped: boolean },
  inside: { now: Inside | undefined },
): LauncherOptions {
  return {
    controlDir,
    insideDir: CONTROL_MOUNT,
    isReadByOthers: process.getuid?.() !== 0 || isRemapped || !ROOT_USER.test(user),
    signalGroup: async (pid, signal) => (await inside.now?.signalGroup(pid, signal)) ?? false,
  };
}

/** Gives a terminal to the container's user. By a descriptor: where the path leads is the image's doing. */
function giveTerminal(path: string, uid: number): void {
  const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  try {
    const { rdev } = fstatSync(fd);
    if (((rdev >> 8) & 0xfff) !== TERMINAL_MAJOR) throw new Error(`${path} is no terminal.`);
    fchownSync(fd, uid, -1);
  } finally {
    closeSync(fd);
  }
}
