import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";

/**
 * Holds the data directory for this process, so that no two daemons own the same containers. A lock
 * whose owner is gone (also one whose pid another process has now) is taken over. Throws when it is
 * held. The answer lets go of it.
 */
export function lockDataDir(dataDir: string): () => void {
  const path = join(dataDir, "host.lock");
  const own = JSON.stringify({ pid: process.pid, startedAt: startTimeOf(process.pid) });
  for (let attempt = 1; ; attempt++) {
    try {
      const file = openSync(path, "wx", 0o600);
      writeSync(file, own);
      closeSync(file);
      return () => {
        if (readLock(path) === own) rmSync(path, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || attempt === 3) throw error;
    }
    const held = readLock(path);
    if (isAlive(held)) throw new Error(`${dataDir} is in use by another sandbar host (${held})`);
    rmSync(path, { force: true });
  }
}

function readLock(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function isAlive(lock: string): boolean {
  try {
    const { pid, startedAt } = JSON.parse(lock) as { pid: number; startedAt: string };
    return Number.isInteger(pid) && pid > 0 && startTimeOf(pid) === startedAt;
  } catch {
    return false;
  }
}

/** When the process started, in the kernel's ticks: with the pid, it names one process only. Empty: no such process. */
function startTimeOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? "" : (fields[19] ?? "");
  } catch {
    // Without /proc the pid alone must do.
    try {
      process.kill(pid, 0);
      return process.platform === "linux" ? "" : "alive";
    } catch {
      return "";
    }
  }
}
