import { setTimeout as sleep } from "node:timers/promises";
import type { SignalName } from "../../contract/process.ts";
import { SIGNALS } from "../../contract/process.ts";
import { type Engine, EngineError } from "./engine.ts";
import { BUSYBOX } from "./tools.ts";

const KILL_TIMEOUT_MS = 10_000;
const CODE_ATTEMPTS = 100;
const CODE_PAUSE_MS = 10;

/** Names the process to a kill from inside, where the machine's own pid is of no use. */
export const PROCESS_MARK = "SANDBAR_PROCESS_ID";

/**
 * The way where pids are not ours (a remote engine, a daemon that is not root): a shell inside signals every process that
 * carries the mark. Needs the mounted busybox, or a `sh` with `grep` in the image. Runs as `user`, who alone may see the mark.
 */
export async function signalMarked(
  engine: Engine,
  options: { containerId: string; mark: string; signal: SignalName; hasTools: boolean; user?: string | undefined },
): Promise<void> {
  const shell = options.hasTools ? [BUSYBOX, "sh"] : ["sh"];
  const tool = options.hasTools ? `${BUSYBOX} ` : "";
  const find = `${tool}grep -qa '${PROCESS_MARK}=${options.mark}' $d/environ 2>/dev/null`;
  // Held still first: one that is told of the other's death could end by itself before its turn comes.
  const hold = options.signal === "SIGKILL" ? `kill -${SIGNALS.SIGSTOP} $p;` : "";
  const script = `p=; for d in /proc/[0-9]*; do ${find} && p="$p \${d#/proc/}"; done; ${hold} kill -${SIGNALS[options.signal]} $p`;
  await runInside(engine, options.containerId, [...shell, "-c", script], options.user);
}

/** The same for a group whose number inside is known; false when it is not there. Needs the mounted busybox. */
export async function signalInside(
  engine: Engine,
  options: { containerId: string; pid: number; signal: SignalName },
): Promise<boolean> {
  const { containerId, pid, signal } = options;
  return (await runInside(engine, containerId, [BUSYBOX, "kill", `-${SIGNALS[signal]}`, `-${pid}`], "0")) === 0;
}

/** Runs a program in the container and waits for its end; answers its code, where the container lives to tell. */
async function runInside(
  engine: Engine,
  containerId: string,
  command: string[],
  user: string | undefined,
): Promise<number | null | undefined> {
  try {
    const options = { AttachStdout: true, Cmd: command, WorkingDir: "/", ...(user && { User: user }) };
    const execId = await engine.createExec(containerId, options);
    const connection = await engine.startExec(execId, { isTerminal: false });
    connection
      .on("error", () => undefined)
      .resume()
      .end();
    await Promise.race([new Promise((resolve) => connection.once("close", resolve)), sleep(KILL_TIMEOUT_MS)]);
    connection.destroy();
    return await codeOf(engine, execId);
  } catch (error) {
    // The container has ended, and the process with it.
    if (!(error instanceof EngineError && (error.status === 404 || error.status === 409))) throw error;
    return undefined;
  }
}

/** An engine closes the connection a moment before it knows the code. */
async function codeOf(engine: Engine, execId: string): Promise<number | null | undefined> {
  for (let attempt = 0; ; attempt++) {
    const { Running, ExitCode } = await engine.inspectExec(execId);
    if (!Running || attempt === CODE_ATTEMPTS) return ExitCode;
    await sleep(CODE_PAUSE_MS);
  }
}
