import { ApiError } from "../contract/errors.ts";
import { newId } from "../contract/ids.ts";
import { FORK_TTL_S } from "../contract/image.ts";
import { isLive, type Sandbox } from "../contract/sandbox.ts";
import type { Fork, ForkRequest } from "../contract/snapshot.ts";
import type { Scope } from "../sandbox/rpc.ts";
import { createSandbox } from "./create-sandbox.ts";
import { deleteImage } from "./delete-image.ts";
import type { Env } from "./env.ts";
import { openSandbox } from "./sandbox-client.ts";

/** What a fork decides by itself. */
export interface ForkPlan {
  imageId: string;
  sandboxIds: string[];
}

export const newForkPlan = (count: number): ForkPlan => ({
  imageId: newId("image"),
  sandboxIds: Array.from({ length: count }, () => newId("sandbox")),
});

/** An earlier request under the same key was cut off, or undone: this one starts nothing over. */
const endedMeanwhile = ({ sandbox_id }: Sandbox) =>
  new ApiError("conflict", {
    detail: `The fork ${sandbox_id} of an earlier request with this key has ended. Use another.`,
  });

/** One snapshot, and as many sandboxes from it as the plan names. Where one cannot be made, none stays. */
export async function forkSandbox(
  env: Env,
  { environment }: Scope,
  sandboxId: string,
  { ttl = FORK_TTL_S }: ForkRequest,
  { imageId, sandboxIds }: ForkPlan,
  isFirst: boolean,
): Promise<Fork> {
  const source = openSandbox(env, sandboxId);
  const { name: _, ...origin } = await source.origin({ environment });
  await source.snapshot({ environment }, { imageId, ttl }, false);
  const create = { ...origin, image: imageId };
  const results = await Promise.allSettled(
    sandboxIds.map((id) => createSandbox(env, environment, create, { sandboxId: id }, isFirst)),
  );
  const data = results.flatMap((result): Sandbox[] => (result.status === "fulfilled" ? [result.value] : []));
  const failed = results.find((result) => result.status === "rejected");
  const ended = data.find(({ state }) => !isLive(state));
  if (!failed && !ended) return { image_id: imageId, data };
  // Also one whose create gave no answer may be there.
  await Promise.allSettled(sandboxIds.map((id) => openSandbox(env, id).terminate({ environment })));
  await deleteImage(env, environment, imageId).catch(() => undefined);
  throw failed?.reason ?? endedMeanwhile(ended!);
}
