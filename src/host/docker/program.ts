import { posix } from "node:path";
import { StartFailure } from "../runtime.ts";
import { type Engine, EngineError, type FileStat } from "./engine.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const IS_DIRECTORY = 2 ** 31;
const ANY_EXECUTE = 0o111;

/**
 * Throws {@link StartFailure} when a created container does not hold the program it is about to run. The engine cannot tell:
 * what it starts is the init, which then ends with 127 as if the program had.
 */
export async function requireProgram(
  engine: Engine,
  containerId: string,
  program: string,
  options: { env: string[]; workdir: string },
): Promise<void> {
  const path = options.env.findLast((entry) => entry.startsWith("PATH="))?.slice(5) || DEFAULT_PATH;
  const folders = program.includes("/") ? [""] : path.split(":");
  let blocked = false;
  for (const folder of folders) {
    const stat = await statFollowed(engine, containerId, posix.resolve(options.workdir || "/", folder, program));
    if (stat === "unknown") return;
    if (stat === undefined) continue;
    if (stat.mode < IS_DIRECTORY && (stat.mode & ANY_EXECUTE) !== 0) return;
    blocked = true;
  }
  if (blocked) throw new StartFailure(`the entrypoint ${JSON.stringify(program)} is not executable`);
  throw new StartFailure(`the entrypoint ${JSON.stringify(program)} was not found in the image`);
}

async function statFollowed(
  engine: Engine,
  containerId: string,
  path: string,
): Promise<FileStat | "unknown" | undefined> {
  try {
    const stat = await engine.stat(containerId, path);
    // The engine resolves the whole chain of links below the container's root.
    return stat?.linkTarget ? await engine.stat(containerId, stat.linkTarget) : stat;
  } catch (error) {
    if (!(error instanceof EngineError) || error.status === undefined) throw error;
    return (await leadsThroughFile(engine, containerId, path)) ? undefined : "unknown";
  }
}

/** A HEAD is refused without words: whether a file stands in the way of the path, or it was something else, has to be looked up. */
async function leadsThroughFile(engine: Engine, containerId: string, path: string): Promise<boolean> {
  for (let folder = posix.dirname(path); folder !== "/"; folder = posix.dirname(folder)) {
    const stat = await engine.stat(containerId, folder).catch(() => "refused" as const);
    if (stat !== "refused") return stat === undefined || (stat.mode < IS_DIRECTORY && !stat.linkTarget);
  }
  return false;
}
