import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { SignalName } from "../../contract/process.ts";
import { SIGNALS } from "../../contract/process.ts";
import { type Engine, EngineError } from "./engine.ts";
import { BUSYBOX } from "./tools.ts";

const KILL_TIMEOUT_MS = 10_000;

/** Names the process to a kill from inside, where the machine's own pid is of no use. */
export const PROCESS_MARK = "SANDBAR_PROCESS_ID";

/** True when this daemon may signal the container's processes by their pids on this machine. */
export async function canSignalDirectly(containerId: string, containerPid: number): Promise<boolean> {
  if (process.getuid?.() !== 0 || containerPid <= 0) return false;
  const groups = await readFile(`/proc/${containerPid}/cgroup`, "utf8").catch(() => "");
  return groups.includes(containerId);
}

/**
 * Signals the group that an exec leads: the engine starts every exec as the leader of a session. The pid may belong to
 * another process by now, so the container's id must still stand in its cgroup, read in the same tick as the kill.
 */
export function signalGroup(containerId: string, pid: number, signal: SignalName): void {
  try {
    if (!readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(containerId)) return;
    process.kill(-pid, signal);
  } catch (error) {
    // ESRCH: reading and killing a process that is just gone.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ESRCH") throw error;
  }
}

/**
 * The way where pids are not ours (a remote engine, a daemon that is not root): a shell inside signals every process that
 * carries the mark. Needs the mounted busybox, or a `sh` with `grep` in the image.
 */
export async function signalMarked(
  engine: Engine,
  options: { containerId: string; mark: string; signal: SignalName; hasTools: boolean },
): Promise<void> {
  const shell = options.hasTools ? [BUSYBOX, "sh"] : ["sh"];
  const tool = options.hasTools ? `${BUSYBOX} ` : "";
  const script = `for d in /proc/[0-9]*; do ${tool}grep -qa '${PROCESS_MARK}=${options.mark}' $d/environ 2>/dev/null && kill -${SIGNALS[options.signal]} \${d#/proc/}; done`;
  try {
    const execId = await engine.createExec(options.containerId, [...shell, "-c", script], [], "/");
    const connection = await engine.startExec(execId);
    connection
      .on("error", () => undefined)
      .resume()
      .end();
    await Promise.race([new Promise((resolve) => connection.once("close", resolve)), sleep(KILL_TIMEOUT_MS)]);
    connection.destroy();
  } catch (error) {
    // The container has ended, and the process with it.
    if (!(error instanceof EngineError && (error.status === 404 || error.status === 409))) throw error;
  }
}
