import { inBatches } from "../rpc/in-batches.ts";

/** Whom to ask whether a place is still needed. */
export interface PlaceHolders {
  SANDBOXES: DurableObjectNamespace;
}

/** What the object of a sandbox is asked. */
interface PlaceHolder {
  /** True while it has, or is about to have, its container there. */
  needsPlace(hostId: string): Promise<boolean>;
}

/** Gives up the places of those that do not need them. One that does not answer keeps its own. */
export async function releaseUnused(
  env: PlaceHolders,
  hostId: string,
  sandboxIds: readonly string[],
  release: (sandboxId: string) => unknown,
): Promise<void> {
  const ask = async (sandboxId: string) => {
    const object = env.SANDBOXES.get(env.SANDBOXES.idFromName(sandboxId)) as unknown as PlaceHolder;
    if (!(await object.needsPlace(hostId))) release(sandboxId);
  };
  await inBatches(
    sandboxIds.map((sandboxId) => () => ask(sandboxId)),
    (reason) => {
      console.error("A sandbox could not be asked for its place; it is asked again.", reason);
    },
  );
}
