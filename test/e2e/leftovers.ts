import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import Docker from "dockerode";
import type { Instance } from "./instance.ts";

/** Sandbox ids that still have something running on this machine for that instance. */
export async function runningContainers(instance: Instance): Promise<string[]> {
  const hostId = (JSON.parse(readFileSync(`${instance.stateDirectory}/state.json`, "utf8")) as { hostId: string })
    .hostId;
  if (instance.runtime === "docker") {
    const containers = await new Docker().listContainers({
      all: true,
      filters: { label: [`dev.sandbar.host=${hostId}`] },
    });
    return containers.map((container) => container.Labels["dev.sandbar.sandbox"]!);
  }
  return [
    ...new Set(
      processesNaming(`${instance.stateDirectory}/host`).flatMap((line) => line.match(/sb-[a-z0-9]{22}/g) ?? []),
    ),
  ];
}

/** The command lines of processes that name this text. */
export function processesNaming(text: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => {
      try {
        return `${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")} cwd=${readlinkSync(`/proc/${pid}/cwd`)}`;
      } catch {
        return "";
      }
    })
    .filter((line) => line.includes(text));
}

/** Pids whose command line matches, by `pgrep -f`; of children of one process when it is given. */
export function pidsOf(pattern: string, parent?: number): number[] {
  const ofParent = parent === undefined ? [] : ["-P", String(parent)];
  try {
    return execFileSync("pgrep", ["-f", ...ofParent, pattern], { encoding: "utf8" })
      .trim()
      .split("\n")
      .map(Number);
  } catch {
    return [];
  }
}

/** The workerds that run an instance's Worker, or stand before it. They read from a pipe what they run: no path names them. */
export function workerdsOf(instance: Instance): number[] {
  return startersOf(instance).flatMap((pid) => pidsOf("workerd serve", pid));
}

/** Its Node processes, which start a workerd that dies again. */
export const startersOf = (instance: Instance) => pidsOf(`(workerd|wrangler).*${instance.stateDirectory}`);

/** Ends the Worker, with all its objects, without a chance to do anything. It is started again. */
export function killWorker(instance: Instance): void {
  const workerds = workerdsOf(instance);
  if (workerds.length === 0) throw new Error(`There is no Worker to kill:\n${instance.output}`);
  signalAll([...startersOf(instance), ...workerds], "SIGKILL");
}

/** The daemon of an instance's own host. */
export function hostProcesses(instance: Instance): number[] {
  return pidsOf(`cli.ts host.*${instance.stateDirectory}`);
}

/** Ends it without a chance to do anything. It is started again. */
export function killHost(instance: Instance): void {
  signalAll(hostProcesses(instance), "SIGKILL");
}

/** Whether there is such a process; one that waits for its parent to take note of its end is none. */
export function isRunning(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** Signals all of them. One that has gone with another, as a child may that is tied to its parent, is none to signal. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}
