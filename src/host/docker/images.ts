import { StartFailure } from "../runtime.ts";
import { type Engine, EngineError, type ImageInspectInfo } from "./engine.ts";
import { readableReason } from "./start-reason.ts";

export const SNAPSHOT_REPOSITORY = "sandbar/snapshot";
/** Marks the images that are snapshots, whatever name they are called by. */
export const SNAPSHOT_LABEL = "dev.sandbar.snapshot";
/** Loose: the engine knows the whole grammar. Nothing here may bend the path of a request. */
const REFERENCE = /^[A-Za-z0-9](?:[A-Za-z0-9:@_/-]|\.(?!\.))*$/;
const SNAPSHOT_ID = /^im-[a-z0-9]{22}$/;

/** The engine's name of a snapshot. */
export function snapshotReference(imageId: string): string {
  return `${SNAPSHOT_REPOSITORY}:${imageId}`;
}

/** Finds an image on this machine or pulls it. Throws {@link StartFailure} with the engine's reason when neither works. */
export async function requireImage(
  engine: Engine,
  image: string,
): Promise<{ reference: string; info: ImageInspectInfo }> {
  const isSnapshot = SNAPSHOT_ID.test(image);
  const reference = isSnapshot ? snapshotReference(image) : image;
  if (!REFERENCE.test(reference)) throw new StartFailure(`${JSON.stringify(image)} is no image reference`);
  const local = await findImage(engine, reference);
  // Snapshots belong to somebody: they start by the id that was checked, not by a tag or the first digits of a digest.
  if (!isSnapshot && local?.Config.Labels?.[SNAPSHOT_LABEL])
    throw new StartFailure(`the image ${image} is a snapshot: name it by its id`);
  if (local) return { reference, info: local };
  if (isSnapshot) throw new StartFailure(`the image ${image} is not on this host`);
  try {
    await engine.pull(reference);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new StartFailure(`the image ${image} cannot be pulled: ${readableReason(error.message)}`, { cause: error });
  }
  const pulled = await findImage(engine, reference);
  if (!pulled) throw new StartFailure(`the image ${image} is not there after its pull`);
  return { reference, info: pulled };
}

/** Undefined when the engine does not know the image, or takes its name for nonsense. */
export async function findImage(engine: Engine, reference: string): Promise<ImageInspectInfo | undefined> {
  try {
    return await engine.inspectImage(reference);
  } catch (error) {
    if (error instanceof EngineError && error.status !== undefined && error.status < 500) return undefined;
    throw error;
  }
}

/** Takes a snapshot's name away; the image goes with the last container that stands on it. */
export async function removeSnapshot(engine: Engine, imageId: string): Promise<void> {
  try {
    await engine.removeImage(snapshotReference(imageId), { force: true });
  } catch (error) {
    if (!(error instanceof EngineError && error.status === 404)) throw error;
  }
}

/** A snapshot deleted while containers stood on it has lost its name only; the last of them takes it along. */
export async function removeNamelessSnapshot(engine: Engine, image: string): Promise<void> {
  const info = await engine.inspectImage(image).catch(() => undefined);
  if (!info?.Config.Labels?.[SNAPSHOT_LABEL] || (info.RepoTags?.length ?? 0) > 0) return;
  await engine.removeImage(image, { force: false }).catch(() => undefined);
}
