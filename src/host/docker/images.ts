import type { ImageSource, StartSpec } from "../../contract/host-protocol.ts";
import { StartFailure } from "../runtime.ts";
import { type Engine, EngineError, type ImageInspectInfo } from "./engine.ts";
import type { RegistryImages } from "./registry-images.ts";
import type { SnapshotNames } from "./snapshot.ts";
import { readableReason } from "./start-reason.ts";

/** Marks the images that are snapshots, whatever name they are called by. */
export const SNAPSHOT_LABEL = "dev.sandbar.snapshot";
/** Where hosts kept their snapshots when each engine had one host. */
const OLD_REPOSITORY = "sandbar/snapshot";
/** Loose: the engine knows the whole grammar. Nothing here may bend the path of a request. */
const REFERENCE = /^[A-Za-z0-9](?:[A-Za-z0-9:@_/-]|\.(?!\.))*$/;
const SNAPSHOT_ID = /^im-[a-z0-9]{22}$/;
/** Podman says where a name without a registry is. */
const OURS = /^(?:localhost\/|(?:index\.)?docker\.io\/)?sandbar\//;

/** Under the address of a gateway. */
const ON_ITS_WAY = /^127\.0\.0\.1:\d+\//;

/** The images of one host, as its engine names them: two hosts on one engine leave each other's alone. */
export class LocalImages {
  readonly #engine: Engine;
  readonly #repository: string;
  readonly #registry: RegistryImages;
  readonly #draftDir: string;

  constructor(engine: Engine, hostId: string, registry: RegistryImages, draftDir: string) {
    this.#engine = engine;
    this.#draftDir = draftDir;
    this.#repository = `sandbar/${hostId}`;
    this.#registry = registry;
  }

  /** The engine's name of a snapshot. */
  referenceOf(imageId: string): string {
    return `${this.#repository}:${imageId}`;
  }

  /** What a snapshot that is to be made is called. */
  namesOf(imageId: string): SnapshotNames {
    return { imageId, reference: this.referenceOf(imageId), draftDir: this.#draftDir };
  }

  /** Finds an image on this machine or pulls it. Throws {@link StartFailure} with the reason when neither works. */
  async require(
    spec: Pick<StartSpec, "image" | "image_source">,
  ): Promise<{ reference: string; info: ImageInspectInfo }> {
    const { image, image_source: source } = spec;
    const isSnapshot = SNAPSHOT_ID.test(image);
    const reference = isSnapshot ? this.referenceOf(image) : source ? this.#pulledReference(source) : image;
    if (!REFERENCE.test(reference)) throw new StartFailure(`${JSON.stringify(image)} is no image reference`);
    const isNamedByOthers = !isSnapshot && !source;
    // Also where there is none: what came from elsewhere under such a name would be taken for somebody's.
    if (isNamedByOthers && OURS.test(reference)) throw somebodys(image);
    const local = isSnapshot ? await this.find(image) : await findImage(this.#engine, reference);
    // Some belong to somebody: they start by what was checked, not by a tag or the first digits of a digest.
    if (isNamedByOthers && local && isSomebodys(local)) throw somebodys(image);
    if (local) return { reference: isSnapshot ? local.Id : reference, info: local };
    if (isSnapshot && !source) throw new StartFailure(`the image ${image} is not on this host`);
    try {
      await (source ? this.#registry.pull(source, reference) : this.#engine.pull(reference));
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      const reason = readableReason(error.message);
      throw new StartFailure(`the image ${image} cannot be pulled: ${reason}`, { cause: error });
    }
    const pulled = await findImage(this.#engine, reference);
    if (!pulled) throw new StartFailure(`the image ${image} is not there after its pull`);
    return { reference, info: pulled };
  }

  /** The snapshot of this id, where it is on this machine. */
  async find(imageId: string): Promise<ImageInspectInfo | undefined> {
    const found = await findImage(this.#engine, this.referenceOf(imageId));
    return found ?? findImage(this.#engine, `${OLD_REPOSITORY}:${imageId}`);
  }

  /** The ids of the snapshots of this host. */
  async list(): Promise<string[]> {
    const references = await this.#engine.references(this.#repository);
    return references.map((one) => one.slice(one.lastIndexOf(":") + 1)).filter((tag) => SNAPSHOT_ID.test(tag));
  }

  /** The names by which whoever makes a sandbox can ask for what is here: not what belongs to somebody. */
  async listReferences(): Promise<string[]> {
    const open = (await this.#engine.namedImages()).filter(({ labels }) => !labels[SNAPSHOT_LABEL]);
    return open.flatMap(({ names }) => names).filter((name) => !OURS.test(name) && !ON_ITS_WAY.test(name));
  }

  /** Takes a snapshot's name away; the image goes with the last container that stands on it. */
  async remove(imageId: string): Promise<void> {
    for (const reference of [this.referenceOf(imageId), `${OLD_REPOSITORY}:${imageId}`]) {
      try {
        await this.#engine.removeImage(reference, { force: true });
      } catch (error) {
        if (!(error instanceof EngineError && error.status === 404)) throw error;
      }
    }
  }

  #pulledReference({ digest }: ImageSource): string {
    return `${this.#repository}:${digest.replace(":", "-")}`;
  }
}

/** True of a snapshot, and of an image that this machine has from a control plane's registry only, or is just getting from there. */
function isSomebodys({ Config, RepoTags, RepoDigests }: ImageInspectInfo): boolean {
  if (Config.Labels?.[SNAPSHOT_LABEL]) return true;
  return [...(RepoTags ?? []), ...(RepoDigests ?? [])].every((name) => OURS.test(name) || ON_ITS_WAY.test(name));
}

function somebodys(image: string): StartFailure {
  return new StartFailure(`the image ${image} is a snapshot, or was pushed: name it by its id or its reference`);
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

/** A snapshot deleted while containers stood on it has lost its name only; the last of them takes it along. */
export async function removeNamelessSnapshot(engine: Engine, image: string): Promise<void> {
  const info = await engine.inspectImage(image).catch(() => undefined);
  if (!info?.Config.Labels?.[SNAPSHOT_LABEL] || (info.RepoTags?.length ?? 0) > 0) return;
  await engine.removeImage(image, { force: false }).catch(() => undefined);
}
