import { ImageCatalog } from "../catalog/images.ts";
import { SandboxCatalog } from "../catalog/sandboxes.ts";
import type { HostOrders, HostReport } from "../contract/host-report.ts";
import { inBatches } from "../rpc/in-batches.ts";

/** What reconciliation asks of a sandbox's object. */
export interface Reconcilable {
  /** True when the container of that generation on that host is the sandbox's own and is to live. */
  claims(hostId: string, generation: number): Promise<boolean>;
  /** Finds out what became of the sandbox's container. */
  reconcile(): Promise<void>;
}

/**
 * Compares what a host runs with what should run there. Only where they differ an object is asked: the
 * object decides, and the host is told to remove what no object claims, and the images that are no more.
 */
export async function reconcile(
  env: { DB: D1Database; SANDBOXES: DurableObjectNamespace },
  report: HostReport,
): Promise<HostOrders> {
  const hostId = report.info.host_id;
  const expected = new Map(
    (await new SandboxCatalog(env.DB).liveOnHost(hostId)).map((row) => [row.sandbox_id, row.generation]),
  );
  const object = (sandboxId: string) =>
    env.SANDBOXES.get(env.SANDBOXES.idFromName(sandboxId)) as unknown as Reconcilable;
  const reported = new Set<string>();
  const reap: HostOrders["reap"] = [];
  const work: (() => Promise<unknown>)[] = [];
  for (const { sandbox_id, generation, running } of report.containers) {
    reported.add(sandbox_id);
    if (expected.get(sandbox_id) !== generation) {
      work.push(async () => {
        if (!(await object(sandbox_id).claims(hostId, generation))) reap.push({ sandbox_id, generation });
        else if (!running) await object(sandbox_id).reconcile();
      });
    } else if (!running) {
      work.push(() => object(sandbox_id).reconcile());
    }
  }
  for (const sandboxId of expected.keys()) {
    if (!reported.has(sandboxId)) work.push(() => object(sandboxId).reconcile());
  }
  await inBatches(work, (reason) => {
    console.error("A sandbox could not be reconciled; it is tried again.", reason);
  });
  const images = report.images ?? [];
  const gone = images.length === 0 ? [] : await new ImageCatalog(env.DB).withoutImage(images, Date.now());
  return { reap, ...(gone.length > 0 && { drop_images: gone }) };
}
