import { readFileSync } from "node:fs";
import type { SignalGroup } from "../launcher/process.ts";
import { run } from "../linux/programs.ts";
import { isAlive, nsenter, parseStat, type HostProcess } from "./machine.ts";

const DEATH_POLL_MS = 3;
const DEATH_PATIENCE_MS = 30_000;

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

export async function killAndWait(init: HostProcess): Promise<void> {
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
