import Docker from "dockerode";
import type { Instance } from "./instance.ts";

const docker = new Docker();

/** The containers that the local platform runs beside the objects of a Worker, the newest first. */
export async function localContainers(): Promise<Docker.ContainerInfo[]> {
  const all = await docker.listContainers({ filters: { name: ["workerd-sandbar-Sandbox-"] } });
  return all.filter(({ Names }) => !Names[0]!.endsWith("-proxy")).toSorted((a, b) => b.Created - a.Created);
}

/** Gives the container of the sandbox that was just made so much memory and no more. */
export async function limitNewestContainer(instance: Instance, sandboxId: string, bytes: number): Promise<void> {
  await instance.until(sandboxId, ["ready"]);
  const [newest] = await localContainers();
  await docker.getContainer(newest!.Id).update({ Memory: bytes, MemorySwap: bytes });
}
