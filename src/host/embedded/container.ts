import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { readFile, writeFile, rename } from "node:fs/promises";
import type { Duplex } from "node:stream";
import { hasCode } from "../../contract/errors.ts";
import { MAIN_PROCESS_ID } from "../../contract/ids.ts";
import type { ContainerExit, StartSpec } from "../../contract/host-protocol.ts";
import { Launcher } from "../launcher/launcher.ts";
import type { LaunchedProcess, SignalGroup } from "../launcher/process.ts";
import { StartFailure, type Container, type Spawned } from "../runtime.ts";
import { settlesWithin, withTimeLimit } from "../time-limit.ts";
import type { Cgroup } from "./cgroup.ts";
import { Dialer } from "./dial.ts";
import type { Images } from "./images.ts";
import { isAlive, nsenter, parseStat, run, type HostProcess } from "./machine.ts";

const KILLED = 137;
const DEFAULT_WORKDIR = "/";
const DEATH_POLL_MS = 3;
const ENTER_TIMEOUT_MS = 10_000;
const DEATH_PATIENCE_MS = 30_000;

/** What a container is made of, in `dataDir/sandboxes/ID`: control, layers, upper, work, stage, state.json. */
export interface Parts {
  dir: string;
  spec: StartSpec;
  cgroup: Cgroup;
  images: Images;
}

/** A container without an engine. */
export class EmbeddedContainer implements Container {
  readonly sandboxId: string;
  readonly generation: number;
  readonly deadlineAt: number;
  readonly publishedPorts: Record<string, number> = {};
  readonly exited: Promise<Omit<ContainerExit, "deadline">>;
  readonly #exit = Promise.withResolvers<Omit<ContainerExit, "deadline">>();
  readonly #parts: Parts;
  #launcher: Launcher | undefined;
  #dialer: Dialer | undefined;
  #stopped: Promise<void> | undefined;
  /** Settles when no snapshot holds the processes still. */
  #thawed: Promise<unknown> = Promise.resolve();

  constructor(parts: Parts) {
    this.#parts = parts;
    this.sandboxId = parts.spec.sandbox_id;
    this.generation = parts.spec.generation;
    this.deadlineAt = parts.spec.deadline_at;
    this.exited = this.#exit.promise;
  }

  /** Begins to use a container whose first process runs. */
  attach(launcher: Launcher): void {
    this.#launcher = launcher;
    const init = readInit(this.#parts.dir);
    if (init !== undefined) this.#dialer = new Dialer(init.pid, `${this.#parts.dir}/dial.sock`);
    void launcher.gone.then(() => this.#ended(KILLED));
  }

  /** Starts the entrypoint. */
  async enter(command: string[]): Promise<void> {
    const { spec } = this.#parts;
    const late = () => new StartFailure("The entrypoint did not start in time.");
    const main = await this.#launch({ command, env: {}, workdir: spec.workdir }, MAIN_PROCESS_ID).catch((error) => {
      throw hasCode(error, "exec_failed") ? late() : error;
    });
    let reason = "";
    main.stderr.on("data", (chunk: Buffer) => {
      if (reason.length < 1000) reason += chunk.toString();
    });
    main.stdin.end();
    const launched = await withTimeLimit(main.launched, ENTER_TIMEOUT_MS, late);
    if (launched.kind === "refused") {
      await settlesWithin(once(main.stderr, "end"), ENTER_TIMEOUT_MS);
      throw new StartFailure(`The entrypoint cannot be started: ${reason.trim().replace(/^sandbar: /, "")}`);
    }
    this.watch(main);
  }

  /** Takes the end of the entrypoint for the end of the container, and its output for nothing. */
  watch(main: LaunchedProcess): void {
    main.stdout.resume();
    main.stderr.resume();
    void main.exited.then(async (returncode) => {
      // A later daemon has no other way to know.
      await writeFile(`${this.#parts.dir}/main.exit`, String(returncode)).catch(() => {});
      this.#ended(returncode);
    });
  }

  /** Finds everything of a container as an earlier daemon left it. */
  async recover(signalGroup: SignalGroup): Promise<void> {
    const { dir, spec, cgroup } = this.#parts;
    cgroup.thaw();
    const init = readInit(dir);
    if (init === undefined || !isAlive(init) || !existsSync(`${dir}/started`)) return this.#ended(KILLED);
    const { launcher, processes } = await Launcher.adopt({ controlDir: `${dir}/control`, signalGroup });
    this.attach(launcher);
    for (const [slot, process] of processes) {
      if (slot === MAIN_PROCESS_ID) this.watch(process);
      else {
        process.stdout.resume();
        process.stderr.resume();
      }
    }
    if (spec.entrypoint !== undefined && !processes.has(MAIN_PROCESS_ID)) {
      const code = Number(await readFile(`${dir}/main.exit`, "utf8").catch(() => KILLED));
      this.#ended(code);
    }
  }

  spawn(spec: Parameters<Container["spawn"]>[0]): Promise<Spawned> {
    return this.#launch(spec);
  }

  async dial(port: number): Promise<Duplex> {
    if (this.#dialer === undefined) throw new Error("The container does not run.");
    return this.#dialer.dial(port);
  }

  async snapshot(imageId: string): Promise<{ size: number }> {
    const { dir, cgroup, images } = this.#parts;
    const snapshot = cgroup.frozen(() => images.keep(imageId, dir));
    this.#thawed = Promise.allSettled([this.#thawed, snapshot]);
    return snapshot;
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop().catch((error: unknown) => {
      this.#stopped = undefined;
      throw error;
    });
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const { dir, cgroup, images } = this.#parts;
    const init = readInit(dir);
    cgroup.thaw();
    if (init !== undefined) await killAndWait(init);
    this.#ended(KILLED);
    this.#launcher?.close();
    await this.#dialer?.close();
    await cgroup.remove();
    await images.discard(dir);
  }

  async #launch(
    spec: { command: string[]; env: Record<string, string>; workdir?: string | undefined },
    slot?: string,
  ): Promise<LaunchedProcess> {
    if (this.#launcher === undefined) throw new Error("The container does not run.");
    const own = this.#parts.spec;
    const env = { ...own.env, ...spec.env };
    const workdir = spec.workdir ?? own.workdir ?? DEFAULT_WORKDIR;
    // The launcher, held still, would seem not to take the slot.
    await this.#thawed;
    return this.#launcher.spawn({ command: spec.command, env, workdir, makeWorkdir: workdir === own.workdir }, slot);
  }

  #ended(returncode: number): void {
    this.#exit.resolve({ returncode, oom: returncode === KILLED && this.#parts.cgroup.outOfMemory });
  }
}

/** Signals a group of the container that `dir` holds, with this machine's own program. */
export function signalIn(dir: string): SignalGroup {
  return async (pid, signal) => {
    const init = readInit(dir);
    if (init === undefined || !isAlive(init)) return true;
    const script = 'kill -s "$0" -- "-$1"';
    return run([...nsenter(init.pid, "--pid"), "sh", "-c", script, signal.slice("SIG".length), String(pid)]).then(
      () => true,
      () => false,
    );
  };
}

/** The container's first process, as `boot.sh` wrote it down. */
export function readInit(dir: string): HostProcess | undefined {
  try {
    const text = readFileSync(`${dir}/init.stat`, "utf8");
    return text.endsWith("\n") ? parseStat(text) : undefined;
  } catch {
    return undefined;
  }
}

async function killAndWait(init: HostProcess): Promise<void> {
  const patience = Date.now() + DEATH_PATIENCE_MS;
  while (isAlive(init)) {
    try {
      process.kill(init.pid, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
    if (Date.now() > patience) throw new Error(`Process ${init.pid} does not end.`);
    await new Promise((resolve) => setTimeout(resolve, DEATH_POLL_MS));
  }
}

/** Keeps what `recover` needs; complete or not there. */
export async function writeState(dir: string, spec: StartSpec): Promise<void> {
  await writeFile(`${dir}/state.json.new`, JSON.stringify(spec), { mode: 0o600 });
  await rename(`${dir}/state.json.new`, `${dir}/state.json`);
}
