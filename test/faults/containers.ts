import { readdirSync, readFileSync } from "node:fs";
import type Docker from "dockerode";
import { isAlive, parseStat } from "../../src/host/embedded/machine.ts";
import { openRuntimeDir } from "../../src/host/runtime-dir.ts";
import { processesNaming } from "../e2e/leftovers.ts";

const SANDBOX_ID = /sb-[a-z0-9]{22}/g;

/** What is on the host, by sandbox. */
export interface Census {
  /** Whose container runs. */
  running: Set<string>;
  /** Who has anything there: a container in any state, processes, folders. Where it was seen. */
  remains: Map<string, string>;
}

/** The containers of the suite's host, looked at and killed from outside of it. */
export interface ContainersOnHost {
  census(): Promise<Census>;
  /** Kills the first process of a container that runs; false when it is not there (any more). */
  kill(sandboxId: string): Promise<boolean>;
}

export function embeddedContainers(dataDir: string): ContainersOnHost {
  const initOf = (sandboxId: string) => {
    const init = quietly(() => parseStat(readFileSync(`${dataDir}/sandboxes/${sandboxId}/init.stat`, "utf8")));
    return init && isAlive(init) ? init : undefined;
  };
  return {
    async census() {
      const folders = quietly(() => readdirSync(`${dataDir}/sandboxes`)) ?? [];
      const running = new Set(folders.filter((id) => initOf(id) !== undefined));
      const remains = new Map(folders.map((id) => [id, `${dataDir}/sandboxes`]));
      await addRuntimeFolders(remains, dataDir);
      for (const line of processesNaming(dataDir))
        for (const id of line.match(SANDBOX_ID) ?? []) remains.set(id, `process ${line}`);
      return { running, remains };
    },
    async kill(sandboxId) {
      const init = initOf(sandboxId);
      return init !== undefined && (quietly(() => process.kill(init.pid, "SIGKILL")) ?? false);
    },
  };
}

export function dockerContainers(docker: Docker, hostId: string, dataDir: string): ContainersOnHost {
  const list = (label: string) => docker.listContainers({ all: true, filters: { label: [label] } });
  const sandboxOf = (container: Docker.ContainerInfo) => container.Labels["dev.sandbar.sandbox"]!;
  return {
    async census() {
      const all = await list(`dev.sandbar.host=${hostId}`);
      const running = new Set(all.filter(({ State }) => State === "running").map(sandboxOf));
      const remains = new Map(all.map((container) => [sandboxOf(container), `container, ${container.Status}`]));
      await addRuntimeFolders(remains, dataDir);
      return { running, remains };
    },
    async kill(sandboxId) {
      const [container] = await list(`dev.sandbar.sandbox=${sandboxId}`).catch(() => []);
      const info =
        container &&
        (await docker
          .getContainer(container.Id)
          .inspect()
          .catch(() => undefined));
      const pid = info?.State.Running ? info.State.Pid : 0;
      return pid > 1 && (quietly(() => process.kill(pid, "SIGKILL")) ?? false);
    },
  };
}

/** The folders of launchers go with their containers. */
async function addRuntimeFolders(remains: Map<string, string>, dataDir: string): Promise<void> {
  const runtimeDir = await openRuntimeDir(dataDir);
  for (const name of quietly(() => readdirSync(runtimeDir)) ?? [])
    for (const id of name.match(SANDBOX_ID) ?? []) if (!remains.has(id)) remains.set(id, runtimeDir);
}

function quietly<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
