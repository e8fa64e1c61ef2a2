import { statfs } from "node:fs/promises";
import { ownCpu, ownMemory } from "../inventory/own-resources.ts";
import type { Resources } from "../runtime.ts";
import type { EngineInfo } from "./engine.ts";

const BYTES_PER_MIB = 1_048_576;

/** What the engine's machine has. An engine whose folder is not to be seen from here is taken to share the disk of the data directory. */
export async function engineResources(info: EngineInfo, dataDir: string): Promise<Resources> {
  const root = info.DockerRootDir ?? dataDir;
  const isVisible = await statfs(root).then(
    () => true,
    () => false,
  );
  return {
    cpu: info.NCPU || ownCpu(),
    memory: Math.floor((info.MemTotal ?? 0) / BYTES_PER_MIB) || ownMemory(),
    diskDir: isVisible ? root : dataDir,
  };
}
