import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { run } from "./machine.ts";

const MAX_PROCESSES = 4096;
const CPU_PERIOD_US = 100_000;
const MIB = 1_048_576;
const REMOVE_ATTEMPTS = 100;

type Controller = "memory" | "cpu" | "pids" | "freezer";
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

  private constructor(version: 1 | 2, parents: Partial<Record<Controller, string>>) {
    this.#version = version;
    this.#parents = parents;
  }

  /** Finds what really works: a controller counts when a process has been seen to enter a group of it. */
  static async probe(): Promise<Cgroups> {
    const parent = version2Parent();
    const candidates =
      parent === undefined
        ? new Cgroups(1, version1Parents())
        : new Cgroups(2, { memory: parent, cpu: parent, pids: parent, freezer: parent });
    const working: Partial<Record<Controller, string>> = {};
    for (const [controller, parent] of Object.entries(candidates.#parents) as [Controller, string][]) {
      const one = new Cgroups(candidates.#version, { [controller]: parent });
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
    return new Cgroups(candidates.#version, working);
  }

  has(controller: Controller): boolean {
    return this.#parents[controller] !== undefined;
  }

  group(name: string): Cgroup {
    const paths = new Map(Object.entries(this.#parents).map(([key, parent]) => [key as Controller, `${parent}/sandbar-${name}`]));
    return new Cgroup(this.#version, paths);
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

  /** Whether the kernel has killed something in here for want of memory. */
  get outOfMemory(): boolean {
    const path = this.#byController.get("memory");
    if (path === undefined) return false;
    try {
      const text = readFileSync(`${path}/${this.#version === 1 ? "memory.oom_control" : "memory.events"}`, "utf8");
      return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0) > 0;
    } catch {
      return false;
    }
  }

  /** Runs something while all processes stand still, where the machine can do that. */
  async frozen<T>(work: () => Promise<T>): Promise<T> {
    const freeze = (on: boolean) => {
      if (this.#version === 1) this.#try("freezer", "freezer.state", on ? "FROZEN" : "THAWED");
      else this.#try("freezer", "cgroup.freeze", on ? 1 : 0);
    };
    freeze(true);
    try {
      await this.#untilFrozen();
      return await work();
    } finally {
      freeze(false);
    }
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
    this.#try("freezer", this.#version === 1 ? "freezer.state" : "cgroup.freeze", this.#version === 1 ? "THAWED" : 0);
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
    return readFileSync(`${path}/cgroup.procs`, "utf8").split("\n").map(Number).filter((pid) => pid > 1 && pid !== process.pid);
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

/** The daemon's own group, of version 1, for each controller. */
function version1Parents(): Partial<Record<Controller, string>> {
  const own = new Map<string, string>();
  for (const line of readFileSync("/proc/self/cgroup", "utf8").trim().split("\n")) {
    const [, names = "", path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    for (const name of names.split(",")) own.set(name, path);
  }
  const parents: Partial<Record<Controller, string>> = {};
  for (const { root, point, type, options } of cgroupMounts()) {
    if (type !== "cgroup") continue;
    for (const name of ["memory", "cpu", "pids", "freezer"] as const) {
      const path = own.get(name);
      if (path !== undefined && options.includes(name)) parents[name] = `${point}${below(root, path)}`.replace(/\/$/, "");
    }
  }
  return parents;
}

/** The nearest group of version 2, from the daemon's own upwards, that hands on its controllers. */
function version2Parent(): string | undefined {
  const mount = cgroupMounts().find(({ type, point }) => type === "cgroup2" && has(point, "memory"));
  const own = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1];
  if (mount === undefined || own === undefined) return undefined;
  return nearest(`${mount.point}${below(mount.root, own)}`.replace(/\/$/, ""), mount.point);
}

function nearest(own: string, top: string): string | undefined {
  for (let path = own; path.startsWith(top); path = dirname(path)) if (handsOn(path)) return path;
  // A group with processes of its own hands nothing on: as the only one of a container, the daemon moves aside.
  if (own !== top) return undefined;
  try {
    mkdirSync(`${own}/sandbar-daemon`, { recursive: true });
    for (const pid of readFileSync(`${own}/cgroup.procs`, "utf8").trim().split("\n")) {
      writeFileSync(`${own}/sandbar-daemon/cgroup.procs`, pid);
    }
  } catch {
    return undefined;
  }
  return handsOn(own) ? own : undefined;
}

function handsOn(path: string): boolean {
  try {
    writeFileSync(`${path}/cgroup.subtree_control`, "+cpu +memory +pids");
    return true;
  } catch {
    return false;
  }
}

function has(point: string, controller: string): boolean {
  try {
    return readFileSync(`${point}/cgroup.controllers`, "utf8").split(/\s+/).includes(controller);
  } catch {
    return false;
  }
}

function below(root: string, path: string): string {
  return root === "/" ? path : path.startsWith(root) ? path.slice(root.length) : "";
}

function cgroupMounts() {
  return readFileSync("/proc/self/mountinfo", "utf8").trim().split("\n").map((line) => {
    const [before = "", after = ""] = line.split(" - ");
    const [, , , root = "/", point = ""] = before.split(" ");
    const [type = "", , options = ""] = after.split(" ");
    return { root, point, type, options: options.split(",") };
  });
}
