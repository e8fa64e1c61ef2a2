import Docker from "dockerode";
import { containersOf } from "../../src/dev/docker-cli.ts";
import type { Instance } from "./instance.ts";

const docker = new Docker();

/** The containers that the local platform runs beside the objects of an instance, the newest first. */
export async function localContainers(instance: Instance): Promise<Docker.ContainerInfo[]> {
  const names = new Set(await containersOf(instance.stateDirectory));
  const all = await docker.listContainers({ filters: { name: ["workerd-"] } });
  return all
    .filter(({ Names: [name = ""] }) => names.has(name.slice(1)) && !name.endsWith("-proxy"))
    .toSorted((a, b) => b.Created - a.Created);
}

/** Gives the container of the sandbox that was just made so much memory and no more. */
export async function limitNewestContainer(instance: Instance, sandboxId: string, bytes: number): Promise<void> {
  await instance.until(sandboxId, ["ready"]);
  const [newest] = await localContainers(instance);
  await docker.getContainer(newest!.Id).update({ Memory: bytes, MemorySwap: bytes });
}
