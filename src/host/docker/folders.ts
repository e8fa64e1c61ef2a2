import { existsSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";

/** Where the host's side of one launcher lies. */
export interface LauncherFolders {
  /** FIFOs and specs, which end with the container. */
  controlDir: string;
  /** What a later daemon must know: `started`, and how the entrypoint ended. */
  stateDir: string;
}

/** The folders of all launchers of this daemon, by the name of their container. */
export class Folders {
  readonly #runtimeDir: string;
  readonly #stateParent: string;

  constructor(runtimeDir: string, dataDir: string) {
    this.#runtimeDir = runtimeDir;
    this.#stateParent = `${dataDir}/docker`;
  }

  of(name: string): LauncherFolders {
    return { controlDir: `${this.#runtimeDir}/${name}`, stateDir: `${this.#stateParent}/${name}` };
  }

  /** Removes the folders of containers that are no more: all but those named. */
  async sweep(live: ReadonlySet<string>): Promise<void> {
    for (const parent of [this.#runtimeDir, this.#stateParent]) {
      const names = await readdir(parent).catch(() => []);
      for (const name of names) {
        if (!live.has(name)) await rm(`${parent}/${name}`, { recursive: true, force: true });
      }
    }
  }
}

/** Makes them anew, over what an earlier attempt left. The launcher makes its control directory itself. */
export async function makeFolders(folders: LauncherFolders): Promise<void> {
  await removeFolders(folders);
  await mkdir(folders.stateDir, { recursive: true, mode: 0o700 });
}

export async function removeFolders({ controlDir, stateDir }: LauncherFolders): Promise<void> {
  await rm(controlDir, { recursive: true, force: true });
  await rm(stateDir, { recursive: true, force: true });
}

/** The start is complete: a container that has not come so far is started anew by whoever asked for it. */
export async function markStarted({ stateDir }: LauncherFolders): Promise<void> {
  await writeFile(`${stateDir}/started`, "");
}

/** From now on it counts as one whose start was cut off, until its start is complete again. */
export async function unmarkStarted({ stateDir }: LauncherFolders): Promise<void> {
  await rm(`${stateDir}/started`);
}

export function hasStarted({ stateDir }: LauncherFolders): boolean {
  return existsSync(`${stateDir}/started`);
}
