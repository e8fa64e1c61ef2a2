import { sleep, type Instance } from "./instance.ts";

export interface ImageView {
  image_id: string;
  status: "pending" | "ready" | "failed";
  error?: string;
  parent?: string;
  name?: string;
  size?: number;
  digest?: string;
}

export const snapshot = (instance: Instance, sandboxId: string, body: object = {}): Promise<ImageView> =>
  instance.call("POST", `/sandboxes/${sandboxId}/snapshot`, body);

export const image = (instance: Instance, imageId: string): Promise<ImageView> =>
  instance.call("GET", `/images/${imageId}`);

/** Waits until it is no longer pending; it may not be there yet. */
export async function settled(instance: Instance, imageId: string, timeoutMs = 120_000): Promise<ImageView> {
  let last: unknown;
  for (const giveUpAt = Date.now() + timeoutMs; Date.now() < giveUpAt; await sleep(200)) {
    const found = await image(instance, imageId).catch((error: unknown) => void (last = error));
    if (found && found.status !== "pending") return found;
    last = found ?? last;
  }
  throw new Error(`${imageId} is not settled: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
}
