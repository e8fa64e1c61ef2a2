import { createHash } from "node:crypto";
import type { Engine, ImageInspectInfo } from "./engine.ts";
import { findImage, removeNamelessSnapshot, SNAPSHOT_LABEL, SNAPSHOT_REPOSITORY, snapshotReference } from "./images.ts";
import { tarArchive } from "./tar-archive.ts";

/**
 * Keeps a container's filesystem as an image with the configuration of the image it was made from. `size` is the whole
 * image's: what a machine that has no layer of it would have to fetch, uncompressed.
 *
 * A commit writes the container's configuration into the image, and the API can add to it but take nothing away: the
 * sandbox's variables, secrets among them, would stay. So the committed image lends its layers only: an archive that holds a
 * clean configuration and names the same layers is loaded, which moves no data, and the committed image is dropped.
 * `pausing` is called with the commit, during which the container stands still.
 */
export async function snapshotContainer(
  engine: Engine,
  containerId: string,
  imageId: string,
  pausing: (commit: Promise<unknown>) => void = () => undefined,
): Promise<{ size: number }> {
  const container = await engine.inspect(containerId);
  const base = await engine.inspectImage(container.Image);
  const own = (container.Config.Env ?? []).filter((entry) => !(base.Config.Env ?? []).includes(entry));
  const labels = { ...emptied(container.Config.Labels, base), [SNAPSHOT_LABEL]: imageId };
  const command = { Entrypoint: listOf(base.Config.Entrypoint), Cmd: listOf(base.Config.Cmd) };
  const commit = engine.commit(containerId, { Env: blanked(own, base), Labels: labels, ...command });
  pausing(commit);
  const committedId = await commit;
  const previous = await findImage(engine, snapshotReference(imageId));
  let kept = false;
  try {
    const committed = await engine.inspectImage(committedId);
    const clean = await loadClean(engine, committed, base, imageId);
    if (clean) return { size: clean.Size };
    // A store that wants the layers in the archive (containerd, Podman): keep the commit, its variables empty.
    requireNoSecret(committed, own);
    await engine.tag(committedId, SNAPSHOT_REPOSITORY, imageId);
    kept = true;
    return { size: committed.Size };
  } finally {
    // A second snapshot under one id takes the name from the first.
    if (previous) await removeNamelessSnapshot(engine, previous.Id);
    if (!kept) await engine.removeImage(committedId, { force: true }).catch(() => undefined);
  }
}

async function loadClean(engine: Engine, committed: ImageInspectInfo, base: ImageInspectInfo, imageId: string) {
  const layers = committed.RootFS.Layers ?? [];
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
  const reference = snapshotReference(imageId);
  const manifest = [
    { Config: configName, RepoTags: [reference], Layers: layers.map((_, index) => `${index}/layer.tar`) },
  ];
  try {
    await engine.load(tarArchive({ [configName]: config, "manifest.json": JSON.stringify(manifest) }));
  } catch {
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
  if (own.some((entry) => !entry.endsWith("=") && kept.includes(entry))) {
    throw new Error("this container engine keeps a sandbox's variables in its snapshots, so none can be made");
  }
}
