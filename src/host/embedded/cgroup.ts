import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { version1Parents, version2Parent, type Controller } from "./cgroup-parents.ts";
import { readOomKills } from "../linux/oom.ts";
import { run } from "../linux/programs.ts";

/** Of one container, threads included. */
export const MAX_PROCESSES = 4096;
const CPU_PERIOD_US = 100_000;
const MIB = 1_048_576;
const REMOVE_ATTEMPTS = 100;

export interface Limits {
  /** Cores. */
  cpu?: number | undefined;
  /** MiB. */
  memory?: number | undefined;
}

/** Where this daemon may make control groups: a directory for each controller it has. */
export class Cgroups {
  readonly #parents: Partial<Record<Controller, string>>;
  readonly #version: 1 | 2;
  readonly #owner: string;

  private constructor(version: 1 | 2, parents: Partial<Record<Controller, string>>, owner: string) {
    this.#version = version;
    this.#parents = parents;
    this.#owner = owner;
  }

  /**
   * Finds what really works: a controller counts when a process has been seen to enter a group of it. `dataDir` tells the groups
   * of one host from those of another on the same machine: a sandbox may have been begun on the one and run on the other.
   */
  static async probe(dataDir: string): Promise<Cgroups> {
    const owner = createHash("sha256").update(dataDir).digest("hex").slice(0, 8);
    const parent = version2Parent();
    const candidates =
      parent === undefined
        ? new Cgroups(1, version1Parents(), owner)
        : new Cgroups(2, { memory: parent, cpu: parent, pids: parent, freezer: parent }, owner);
    const working: Partial<Record<Controller, string>> = {};
    for (const [controller, parent] of Object.entries(candidates.#parents) as [Controller, string][]) {
      const one = new Cgroups(candidates.#version, { [controller]: parent }, owner);
      const group = one.group(`probe-${process.pid}`);
      try {
        group.make({ cpu: 1, memory: 64 });
        await run(["sh", "-c", 'echo 0 >"$0/cgroup.procs"', group.paths[0]!]);
        working[controller] = parent;
      } catch {
        // Not ours to use.
      } finally {
        await group.remove().catch(() => {});
      }
    }
    return new Cgroups(candidates.#version, working, owner);
  }

  has(controller: Controller): boolean {
    return this.#parents[controller] !== undefined;
  }

  group(name: string): Cgroup {
    const pathIn = (parent: string) => {
      // As groups were called when a machine had one host.
      const old = `${parent}/sandbar-${name}`;
      return existsSync(old) ? old : `${parent}/sandbar-${this.#owner}-${name}`;
    };
    const paths = Object.entries(this.#parents).map(([key, parent]) => [key as Controller, pathIn(parent)] as const);
    return new Cgroup(this.#version, new Map(paths));
  }
}

/** The control group of one container. */
export class Cgroup {
  readonly #version: 1 | 2;
  readonly #byController: Map<Controller, string>;

  constructor(version: 1 | 2, byController: Map<Controller, string>) {
    this.#version = version;
    this.#byController = byController;
  }

  /** The directories whose `cgroup.procs` a process joins. */
  get paths(): string[] {
    return [...new Set(this.#byController.values())];
  }

  make(limits: Limits): void {
    for (const path of this.paths) mkdirSync(path, { recursive: true });
    const { cpu, memory } = limits;
    const old = this.#version === 1;
    this.#set("pids", "pids.max", MAX_PROCESSES);
    if (memory !== undefined) {
      this.#set("memory", old ? "memory.limit_in_bytes" : "memory.max", memory * MIB);
      // The total of memory and swap is the same amount: no swap. A kernel without swap accounting has no such file.
      this.#try("memory", old ? "memory.memsw.limit_in_bytes" : "memory.swap.max", old ? memory * MIB : 0);
    }
    if (cpu !== undefined) {
      const quota = Math.max(1000, Math.round(cpu * CPU_PERIOD_US));
      if (old) {
        this.#set("cpu", "cpu.cfs_period_us", CPU_PERIOD_US);
        this.#set("cpu", "cpu.cfs_quota_us", quota);
      } else this.#set("cpu", "cpu.max", `${quota} ${CPU_PERIOD_US}`);
    }
  }

  /** How many processes the kernel has killed in here for want of memory; undefined where it is not counted. */
  get oomKills(): number | undefined {
    const path = this.#byController.get("memory");
    return path === undefined ? undefined : readOomKills(path, this.#version);
  }

  /** Runs something while all processes stand still, where the machine can do that. */
  async frozen<T>(work: () => Promise<T>): Promise<T> {
    this.#freeze(true);
    try {
      await this.#untilFrozen();
      return await work();
    } finally {
      this.thaw();
    }
  }

  /** A frozen process does not even die; a daemon that ends during a snapshot leaves such. */
  thaw(): void {
    this.#freeze(false);
  }

  #freeze(on: boolean): void {
    if (this.#version === 1) this.#try("freezer", "freezer.state", on ? "FROZEN" : "THAWED");
    else this.#try("freezer", "cgroup.freeze", on ? 1 : 0);
  }

  async #untilFrozen(): Promise<void> {
    const path = this.#byController.get("freezer");
    for (let attempt = 0; path !== undefined && attempt < 50; attempt += 1) {
      const file = this.#version === 1 ? "freezer.state" : "cgroup.events";
      if (/^FROZEN|^frozen 1$/m.test(readFileSync(`${path}/${file}`, "utf8"))) return;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  /** Kills whatever is left inside and removes the group. */
  async remove(): Promise<void> {
    this.thaw();
    for (const path of this.paths) {
      for (let attempt = 0; ; attempt += 1) {
        try {
          rmdirSync(path);
          break;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === "ENOENT") break;
          if (attempt === REMOVE_ATTEMPTS) throw error;
          for (const pid of processesIn(path)) killQuietly(pid);
          await new Promise((resolve) => setTimeout(resolve, Math.min(2 + attempt, 20)));
        }
      }
    }
  }

  #set(controller: Controller, file: string, value: string | number): void {
    const path = this.#byController.get(controller);
    if (path !== undefined) writeFileSync(`${path}/${file}`, String(value));
  }

  #try(controller: Controller, file: string, value: string | number): void {
    try {
      this.#set(controller, file, value);
    } catch {
      // The caller goes on without.
    }
  }
}

function processesIn(path: string): number[] {
  try {
    return readFileSync(`${path}/cgroup.procs`, "utf8")
      .split("\n")
      .map(Number)
      .filter((pid) => pid > 1 && pid !== process.pid);
  } catch {
    return [];
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone meanwhile.
  }
}
