import { ApiError } from "../../contract/errors.ts";
import type { TerminalSize } from "../../contract/process.ts";
import { noInput } from "../launcher/input.ts";
import { TERM } from "../linux/terminal.ts";
import { NO_OUTPUT, type Spawned, type SpawnSpec } from "../runtime.ts";
import { EngineError, type ExecOptions } from "./engine.ts";
import type { ExecContext } from "./exec-context.ts";
import { endedProcess } from "./exec-output.ts";
import { ExecProcess } from "./exec-process.ts";
import { ExecState } from "./exec-state.ts";
import { PROCESS_MARK } from "./group-signal.ts";
import { cannotRunCode, readableReason } from "./start-reason.ts";

/** Starts a process by the engine's own exec. Throws `sandbox_ended`. */
export async function spawnExec(context: ExecContext, spec: SpawnSpec): Promise<Spawned> {
  const { engine, containerId } = context;
  try {
    const execId = await engine.createExec(containerId, execOptions(context, spec));
    const connection = await engine.startExec(execId, { isTerminal: spec.pty !== undefined });
    const process = new ExecProcess(context, spec, execId, connection);
    if (spec.pty) void process.resize?.(spec.pty);
    return process;
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    if (isContainerGone(error)) throw new ApiError("sandbox_ended", { cause: error });
    if (!isRefusedProgram(error)) throw error;
    return notRun(readableReason(error.message), spec);
  }
}

/**
 * An exec that an earlier daemon started. What it has written since then is lost: the engine keeps nothing, and lets nobody
 * attach to an exec that runs. Undefined when the engine knows nothing of it.
 */
export async function adoptExec(context: ExecContext, processId: string, execId: string): Promise<Spawned | undefined> {
  const info = await context.engine.inspectExec(execId).catch(() => undefined);
  if (info?.ContainerID !== context.containerId) return undefined;
  const state = new ExecState(context, { process_id: processId, user: info.ProcessConfig.user }, execId);
  return {
    handle: execId,
    isInputLost: true,
    stdin: noInput(),
    stdout: NO_OUTPUT,
    stderr: NO_OUTPUT,
    exited: state.exitCode(),
    kill: (signal) => state.kill(signal),
    ...(info.ProcessConfig.tty && {
      resize: (size: TerminalSize) => context.engine.resizeExec(execId, size).catch(() => undefined),
    }),
    release: () => undefined,
  };
}

function execOptions({ view }: ExecContext, spec: SpawnSpec): ExecOptions {
  const { command, workdir, user, pty } = spec;
  const env = {
    ...(pty && { TERM }),
    ...spec.env,
    ...(view?.canSignal ? {} : { [PROCESS_MARK]: spec.process_id }),
  };
  return {
    // What is not attached the engine throws away by itself, so that the other stream's reader holds nothing back.
    AttachStdin: pty !== undefined || spec.input !== "none",
    AttachStdout: spec.stdout !== "ignore",
    AttachStderr: spec.stderr !== "ignore",
    Tty: pty !== undefined,
    ...(pty && { ConsoleSize: [pty.rows, pty.cols] as [number, number] }),
    Cmd: command,
    Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    ...(workdir && { WorkingDir: workdir }),
    ...(user && { User: user }),
  };
}

/** Also of a container that the engine still knows and that has ended. */
function isContainerGone({ status, message }: EngineError): boolean {
  return status === 404 || (status === 409 && /not running|on running containers/i.test(message));
}

/** Newer engines refuse the start itself; older ones write the reason to stdout and end. */
function isRefusedProgram(error: EngineError): boolean {
  const known =
    /OCI runtime exec failed|executable file|no such file|permission denied|chdir|not a directory|exec format|unable to find (?:user|group)|no matching entries|no users? found/i;
  return (error.status === 400 || error.status === 500) && known.test(error.message);
}

/** On a terminal, all that is said is its output. */
function notRun(reason: string, { pty, stderr }: SpawnSpec): Spawned {
  const words = pty ? { stdout: `${reason}\r\n` } : stderr === "ignore" ? {} : { stderr: `${reason}\n` };
  return endedProcess(cannotRunCode(reason), words);
}
