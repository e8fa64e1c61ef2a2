import type { Container, Spawned } from "./runtime.ts";

/** What an earlier daemon started in the container: see `Container.adopt`. One that fails is lost, and the others are not for it. */
export async function adopt(container: Container | undefined, id: string, handle: string | undefined) {
  try {
    return await container?.adopt(id, handle);
  } catch (error) {
    console.error(`sandbar host: the process ${id} cannot be found again:`, error);
    return undefined;
  }
}

/** Ends a process that nobody asks for. */
export async function disown(process: Spawned): Promise<void> {
  await process.kill("SIGKILL").finally(() => process.exited);
  process.release();
  process.stdin.destroy();
}
