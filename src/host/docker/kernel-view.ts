import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { SignalName } from "../../contract/process.ts";
import { openRootOf } from "../linux/confined.ts";
import { readOomKills } from "../linux/oom.ts";
import { seesEveryFile } from "../linux/rights.ts";
import { openNetworkOf } from "../network/namespace.ts";

const CGROUP_ROOT = "/sys/fs/cgroup";
/** How many times as long as a scan took the next one is put off. */
const SCAN_PAUSES = 10;

/**
 * A container as the kernel of this machine shows it. Whatever a sandbox says of itself, only processes that the kernel
 * counts among the container's are ever signalled.
 */
export class KernelView {
  /** The container's first process. */
  readonly initPid: number;
  /** Who that runs as, as this machine counts users. */
  readonly uid: number;
  /** Whether this daemon may signal the container's processes by their pids on this machine. */
  readonly canSignal: boolean;
  readonly #containerId: string;
  readonly #pidNamespace: string | undefined;
  readonly #groups: Map<string, string>;
  /** By the pid inside: the pid on this machine, as last seen. */
  #hostPids = new Map<number, number>();
  #mayScanAt = 0;
  #oomKills: number | undefined;

  private constructor(containerId: string, initPid: number, groups: Map<string, string>) {
    this.#containerId = containerId;
    this.initPid = initPid;
    this.#groups = groups;
    this.uid = Number(/^Uid:\t(\d+)/m.exec(readOrEmpty(`/proc/${initPid}/status`))?.[1] ?? 0);
    this.#pidNamespace = pidNamespaceOf(initPid);
    this.canSignal = process.getuid?.() === 0 && this.#pidNamespace !== undefined;
  }

  /** Undefined where the engine's pids are not this machine's: its kernel is another, or the container has ended. */
  static open(containerId: string, initPid: number): KernelView | undefined {
    if (initPid <= 0) return undefined;
    const text = readOrEmpty(`/proc/${initPid}/cgroup`);
    if (!text.includes(containerId)) return undefined;
    return new KernelView(containerId, initPid, groupsIn(text, containerId));
  }

  /** Signals the group that a process leads, by its pid inside; false when there is none (yet). */
  signalInside(pid: number, signal: SignalName): boolean {
    const hostPid = this.#hostPidOf(pid);
    return hostPid !== undefined && killGroup(hostPid, signal);
  }

  /**
   * Signals the group that a process leads, by its pid on this machine. That may belong to another process by now, so the
   * container's id must still stand in its cgroup, read in the same tick as the kill.
   */
  signal(hostPid: number, signal: SignalName): void {
    if (readOrEmpty(`/proc/${hostPid}/cgroup`).includes(this.#containerId)) killGroup(hostPid, signal);
  }

  /** Whether the container's first process still runs. */
  isAlive(): boolean {
    return readOrEmpty(`/proc/${this.initPid}/cgroup`).includes(this.#containerId);
  }

  /** The container's root directory; undefined where this daemon may not open it, or the container has ended. */
  openRoot(): number | undefined {
    return this.canSignal ? openRootOf(this.initPid, () => this.isAlive()) : undefined;
  }

  /** The container's network; undefined where this daemon may not open it. Throws `sandbox_ended`. */
  openNetwork(): number | undefined {
    return this.canSignal ? openNetworkOf(this.initPid, () => this.isAlive()) : undefined;
  }

  /** Whether the first process, and who is like it, sees every file that it can name. */
  seesEveryFile(): boolean {
    return this.canSignal && seesEveryFile(this.initPid);
  }

  /** How often the kernel has killed in here for want of memory; after the end of the container, as last seen. */
  oomKills(): number | undefined {
    const [group, version] = this.#groups.has("memory")
      ? [this.#groups.get("memory"), 1 as const]
      : [this.#groups.get(""), 2 as const];
    const now = group === undefined ? undefined : readOomKills(group, version);
    if (now !== undefined) this.#oomKills = now;
    return this.#oomKills;
  }

  #hostPidOf(pid: number): number | undefined {
    const known = this.#hostPids.get(pid);
    if (known !== undefined && this.#insideOf(known) === pid) return known;
    if (performance.now() < this.#mayScanAt) return undefined;
    this.#scan();
    return this.#hostPids.get(pid);
  }

  /** Looks at all that is in there. A sandbox full of processes must not cost the others more than a share of this daemon's time. */
  #scan(): void {
    const begin = performance.now();
    this.#hostPids = new Map();
    for (const candidate of this.#pids()) {
      const inside = this.#insideOf(candidate);
      if (inside !== undefined) this.#hostPids.set(inside, candidate);
    }
    const end = performance.now();
    this.#mayScanAt = end + SCAN_PAUSES * (end - begin);
  }

  /** The pid inside of a process of the container; undefined of any other. */
  #insideOf(hostPid: number): number | undefined {
    const inside = /^NSpid:.*\t(\d+)$/m.exec(readOrEmpty(`/proc/${hostPid}/status`))?.[1];
    return inside !== undefined && pidNamespaceOf(hostPid) === this.#pidNamespace ? Number(inside) : undefined;
  }

  /** All that may be in the container: its control group's, else, where that cannot be read, everybody. */
  #pids(): number[] {
    const group = this.#groups.get("pids") ?? this.#groups.get("");
    const listed = group === undefined ? "" : readOrEmpty(`${group}/cgroup.procs`);
    const words = listed === "" ? readdirSync("/proc").filter((name) => /^\d+$/.test(name)) : listed.trim().split("\n");
    return words.map(Number);
  }
}

/** The container's group of each controller, by its name; of version 2, by the empty one. */
function groupsIn(text: string, containerId: string): Map<string, string> {
  const groups = new Map<string, string>();
  for (const line of text.trim().split("\n")) {
    const [, controllers = "", path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (!path.includes(containerId)) continue;
    for (const name of controllers.split(",")) groups.set(name, `${CGROUP_ROOT}/${controllers}${path}`);
  }
  return groups;
}

function pidNamespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

/** False when it leads no group, or is just gone. */
function killGroup(leader: number, signal: SignalName): boolean {
  try {
    process.kill(-leader, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
