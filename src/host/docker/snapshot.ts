import { createHash } from "node:crypto";
import type { Engine, ImageInspectInfo } from "./engine.ts";
import { type PackedLayer, upperThatCommitLoses, withExactLayer } from "./exact-layer.ts";
import { findImage, SNAPSHOT_LABEL } from "./images.ts";
import { tarArchive } from "./tar-archive.ts";

/** What a snapshot is called: `reference` ends with its id as the tag. */
export interface SnapshotNames {
  imageId: string;
  reference: string;
  /** Where a layer of our own may lie until the engine has it. */
  draftDir: string;
}

/**
 * Keeps a container's filesystem as an image with the configuration of the image it was made from. `size` is the whole
 * image's: what a machine that has no layer of it would have to fetch, uncompressed.
 *
 * A commit writes the container's configuration into the image, and the API can add to it but take nothing away: the
 * sandbox's variables, secrets among them, would stay. So the committed image lends its layers only: an archive that holds a
 * clean configuration and names the same layers is loaded, which moves no data, and the committed image is dropped.
 * Where the commit does not take all of the files along, the archive brings a layer of our own in the place of the commit's.
 * `moves` is called once the container goes on.
 */
export async function snapshotContainer(
  engine: Engine,
  containerId: string,
  { imageId, reference, draftDir }: SnapshotNames,
  moves: () => void = () => undefined,
): Promise<{ size: number }> {
  const container = await engine.inspect(containerId);
  const base = await engine.inspectImage(container.Image);
  const own = (container.Config.Env ?? []).filter((entry) => !(base.Config.Env ?? []).includes(entry));
  const labels = { ...emptied(container.Config.Labels, base), [SNAPSHOT_LABEL]: imageId };
  const command = { Entrypoint: listOf(base.Config.Entrypoint), Cmd: listOf(base.Config.Cmd) };
  const commit = engine.commit(containerId, { Env: blanked(own, base), Labels: labels, ...command });
  const [committedId, upper] = await Promise.all([commit, upperThatCommitLoses(container)]);
  if (upper === undefined) moves();
  let kept = false;
  try {
    const committed = await engine.inspectImage(committedId);
    const load = (layer?: PackedLayer) => loadClean(engine, committed, base, { imageId, reference }, layer);
    const exact =
      upper !== undefined &&
      (await withExactLayer(engine, containerId, upper, draftDir, (layer) => {
        moves();
        return load(layer);
      }));
    const clean = exact || (await load());
    if (clean) return { size: clean.Size };
    // A store that wants the layers in the archive (containerd, Podman): keep the commit, its variables empty.
    requireNoSecret(committed, own);
    await engine.tag(committedId, reference.slice(0, reference.lastIndexOf(":")), imageId);
    kept = true;
    return { size: committed.Size };
  } finally {
    moves();
    if (!kept) await engine.removeImage(committedId, { force: true }).catch(() => undefined);
  }
}

/** An image of a committed one's layers, the last of them in the place of its own where there is a `layer`. Undefined where the engine cannot do so. */
async function loadClean(
  engine: Engine,
  committed: ImageInspectInfo,
  base: ImageInspectInfo,
  { imageId, reference }: Pick<SnapshotNames, "imageId" | "reference">,
  layer: PackedLayer | undefined,
): Promise<ImageInspectInfo | undefined> {
  const layers = layer ? [...(base.RootFS.Layers ?? []), layer.diffId] : (committed.RootFS.Layers ?? []);
  const created = committed.Created;
  const config = JSON.stringify({
    architecture: committed.Architecture,
    os: committed.Os,
    created,
    config: { ...base.Config, Labels: { ...base.Config.Labels, [SNAPSHOT_LABEL]: imageId } },
    rootfs: { type: "layers", diff_ids: layers },
    history: layers.map(() => ({ created, created_by: "sandbar snapshot" })),
  });
  const configName = `${createHash("sha256").update(config).digest("hex")}.json`;
  const names = layers.map((_, index) => `${index}/layer.tar`);
  const manifest = [{ Config: configName, RepoTags: [reference], Layers: names }];
  const files = { [configName]: config, "manifest.json": JSON.stringify(manifest) };
  try {
    await engine.load(tarArchive(layer ? { ...files, [names.at(-1)!]: layer } : files));
  } catch (error) {
    if (layer) throw error;
    return undefined;
  }
  const loaded = await findImage(engine, reference);
  return JSON.stringify(loaded?.RootFS.Layers) === JSON.stringify(layers) ? loaded : undefined;
}

/** What runs in the container is no part of its image. Empty is not the same as absent: that would leave the container's. */
function listOf(command: string | string[] | null | undefined): string[] {
  return typeof command === "string" ? [command] : (command ?? []);
}

/** The sandbox's own variables with the image's value, or none. */
function blanked(own: string[], base: ImageInspectInfo): string[] {
  return own.map((entry) => {
    const prefix = entry.slice(0, entry.indexOf("=") + 1);
    return base.Config.Env?.find((candidate) => candidate.startsWith(prefix)) ?? prefix;
  });
}

/** The sandbox's own labels, empty; the image's as they are. */
function emptied(labels: Record<string, string>, base: ImageInspectInfo): Record<string, string> {
  return Object.fromEntries(Object.keys(labels).map((key) => [key, base.Config.Labels?.[key] ?? ""]));
}

/** Better no snapshot than one that carries a secret to whoever starts it. */
function requireNoSecret(image: ImageInspectInfo, own: string[]): void {
  const { ContainerConfig } = image as { ContainerConfig?: { Env?: string[] | null } };
  const kept = [...(image.Config.Env ?? []), ...(ContainerConfig?.Env ?? [])];
  if (own.some((entry) => entry.indexOf("=") < entry.length - 1 && kept.includes(entry))) {
    throw new Error("this container engine keeps a sandbox's variables in its snapshots, so none can be made");
  }
}
