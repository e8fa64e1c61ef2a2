import { existsSync } from "node:fs";
import { AttachedMain } from "./attached-main.ts";
import { ContainerLauncher } from "./container-launcher.ts";
import { DockerContainer } from "./container.ts";
import { EngineError, type ContainerInspectInfo, type Engine } from "./engine.ts";
import { type Folders, hasStarted, type LauncherFolders } from "./folders.ts";
import type { LocalImages } from "./images.ts";
import { LABELS } from "./labels.ts";
import { patiently } from "./patience.ts";
import { removeContainer } from "./removal.ts";
import { readAdoption, readWarmSpec } from "./warm-files.ts";

interface Parts {
  engine: Engine;
  images: LocalImages;
  folders: Folders;
  isRemapped: boolean;
}

/**
 * A container that an earlier daemon left; undefined for one whose start, or whose way from nobody's to a sandbox's, was cut off,
 * which is removed: it will be asked for again.
 */
export async function recoverContainer(parts: Parts, id: string): Promise<DockerContainer | undefined> {
  const { engine, images } = parts;
  const info = await inspectIfThere(engine, id);
  if (!info) return undefined;
  const folders = info.Config.Labels[LABELS.launcher] ? parts.folders.of(folderNameOf(info)) : undefined;
  const isUnstarted = info.State.Status === "created" || info.State.Status === "configured";
  if (isUnstarted || (folders && (!hasStarted(folders) || isUselessWarm(info, folders)))) {
    await patiently(() => removeContainer(engine, id));
    return undefined;
  }
  // A daemon that ended in the middle of a snapshot has left it standing still.
  if (info.State.Paused) await patiently(() => engine.unpause(id));
  if (!folders) return new DockerContainer({ engine, images, info, attached: await attachAnew(engine, info) });
  const launcher = await adoptLauncher(info, folders, parts.isRemapped);
  const container = new DockerContainer({ engine, images, info, folders, launcher });
  if (!launcher && container.isNobodys) {
    await patiently(() => container.stop());
    return undefined;
  }
  container.recoverMain();
  return container;
}

/** True of one that was started ahead and neither is a sandbox's nor can become one any more. */
function isUselessWarm(info: ContainerInspectInfo, folders: LauncherFolders): boolean {
  if (!info.Config.Labels[LABELS.warm]) return false;
  try {
    if (readAdoption(folders)) return false;
    return !info.State.Running || !readWarmSpec(folders);
  } catch (error) {
    console.error(`sandbar host: nobody knows whose ${info.Name} is, it is removed:`, String(error));
    return true;
  }
}

/** See `Starter`. */
function folderNameOf({ Config: { Labels } }: ContainerInspectInfo): string {
  return Labels[LABELS.warm] || `${Labels[LABELS.sandbox]}-${Labels[LABELS.generation]}`;
}

/** Undefined for a container that is gone. One whose engine is away just now is not. */
export async function inspectIfThere(engine: Engine, id: string): Promise<ContainerInspectInfo | undefined> {
  try {
    return await patiently(() => engine.inspect(id));
  } catch (error) {
    if (error instanceof EngineError && error.status === 404) return undefined;
    throw error;
  }
}

async function adoptLauncher(info: ContainerInspectInfo, folders: LauncherFolders, isRemapped: boolean) {
  if (!info.State.Running || !existsSync(folders.controlDir)) return undefined;
  return ContainerLauncher.adopt(folders, { user: info.Config.User, isRemapped }).catch((error: unknown) => {
    console.error(
      `sandbar host: the launcher of ${info.Name} is out of reach, the engine starts its processes:`,
      String(error),
    );
    return undefined;
  });
}

async function attachAnew(engine: Engine, info: ContainerInspectInfo): Promise<AttachedMain | undefined> {
  if (!info.Config.Labels[LABELS.entrypoint]) return undefined;
  const connection = info.State.Running ? await engine.attach(info.Id).catch(() => undefined) : undefined;
  return new AttachedMain(engine, info.Id, connection);
}
