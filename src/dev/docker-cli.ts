import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Wrangler's own setting: the docker command. */
const docker = async (...args: string[]) => (await run(process.env["WRANGLER_DOCKER_BIN"] ?? "docker", args)).stdout;

/** Throws, with what to do, where no engine answers. */
export async function requireDocker(): Promise<void> {
  try {
    await docker("version", "--format", "{{.Server.Version}}");
  } catch (error) {
    const why = error instanceof Error ? error.message.trim().split("\n").at(-1) : String(error);
    throw new Error(`SANDBAR_CONTAINERS=1 needs a Docker engine on this machine, which does not answer: ${why}`, {
      cause: error,
    });
  }
}

/**
 * The names of the containers of objects whose storage is in this directory, their networking sidecars among them. Their
 * names end with the object's id, and so do the files that its storage is in.
 */
export async function containersOf(stateDirectory: string): Promise<string[]> {
  if (!existsSync(stateDirectory)) return [];
  const files = readdirSync(stateDirectory, { recursive: true, encoding: "utf8" });
  const ids = new Set(files.map((file) => /([0-9a-f]{64})\.sqlite$/.exec(file)?.[1]));
  const names = (await docker("ps", "-a", "--format", "{{.Names}}", "--filter", "name=^workerd-")).split("\n");
  return names.filter((name) => {
    const id = /-([0-9a-f]{64})(-proxy)?$/.exec(name)?.[1];
    return id !== undefined && ids.has(id);
  });
}

/** Removes what `wrangler dev` leaves when it ends: sidecars always, and all of them after a `kill -9`. */
export async function removeContainersOf(stateDirectory: string): Promise<void> {
  const names = await containersOf(stateDirectory);
  if (names.length > 0) await docker("rm", "--force", "--volumes", ...names);
}
