import { createHash } from "node:crypto";
import { access, chmod, constants, lstat, mkdir, realpath, rmdir } from "node:fs/promises";

/** Memory, on every Linux: making a FIFO costs a hundredth of what it may cost on a disk. */
const SHARED_MEMORY = "/dev/shm";

/**
 * The folder for what lives as long as the containers do and not longer: FIFOs. In memory for root, whose files nobody tidies
 * away at the end of a login as those of other users are; else in the data directory. It is this user's own, and of this
 * data directory.
 */
export async function openRuntimeDir(dataDir: string): Promise<string> {
  const path = await realpath(dataDir);
  const shared = `${SHARED_MEMORY}/sandbar`;
  const inMemory = process.getuid?.() === 0 && (await isWritable(SHARED_MEMORY)) && (await ownFolder(shared));
  const name = createHash("sha256").update(path).digest("hex").slice(0, 16);
  const dir = inMemory ? `${shared}/${name}` : `${path}/run`;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await chmod(dir, 0o700);
  return dir;
}

/** Takes the folder away again where nothing is left in it. */
export async function closeRuntimeDir(dataDir: string): Promise<void> {
  await rmdir(await openRuntimeDir(dataDir)).catch(() => undefined);
}

function isWritable(folder: string): Promise<boolean> {
  return access(folder, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Makes it, or makes sure that nobody else did: everybody may write where it lies. */
async function ownFolder(folder: string): Promise<boolean> {
  await mkdir(folder, { mode: 0o700 }).catch(() => undefined);
  const stat = await lstat(folder).catch(() => undefined);
  if (!stat?.isDirectory() || stat.uid !== process.getuid?.()) return false;
  await chmod(folder, 0o700);
  return true;
}
