import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, open, rename } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { LAUNCHER_SCRIPT } from "../launcher/launcher.ts";

/** Where the tools are inside of a container. */
export const TOOLS_MOUNT = "/.sandbar";
export const BUSYBOX = `${TOOLS_MOUNT}/busybox`;
/** Where a container that has a launcher sees its control directory. */
export const CONTROL_MOUNT = `${TOOLS_MOUNT}/run`;
/** The first process of such a container: the image need not hold anything. */
export const LAUNCHER_COMMAND = [BUSYBOX, "sh", `${TOOLS_MOUNT}/launcher.sh`, CONTROL_MOUNT, BUSYBOX, "setsid"];

const CANDIDATES = ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox", "/usr/local/bin/busybox"];
const PT_INTERP = 3;
const TRY_TIMEOUT_MS = 5_000;

/** The folder of the tools, and whether its busybox can do what the launcher needs. */
export interface Tools {
  folder: string;
  canLaunch: boolean;
}

/**
 * Puts the machine's static busybox and the launcher into `<dataDir>/tools`, to be mounted read-only into containers;
 * undefined where there is no static busybox.
 */
export async function prepareTools(dataDir: string): Promise<Tools | undefined> {
  const folder = resolve(dataDir, "tools");
  for (const candidate of CANDIDATES) {
    if (!(await isStaticElf(candidate))) continue;
    await mkdir(folder, { recursive: true, mode: 0o755 });
    await chmod(folder, 0o755);
    // The place of the control directory's mount.
    await mkdir(join(folder, "run"), { recursive: true, mode: 0o755 });
    await install(candidate, join(folder, "busybox"));
    await install(LAUNCHER_SCRIPT, join(folder, "launcher.sh"));
    return { folder, canLaunch: await canLaunch(join(folder, "busybox")) };
  }
  return undefined;
}

/** Whether it has `setsid`, and a shell that starts a program under another name: as `true`, it must end well. */
function canLaunch(busybox: string): Promise<boolean> {
  const command = ["setsid", busybox, "sh", "-c", 'exec -a true "$0"', busybox];
  return promisify(execFile)(busybox, command, { timeout: TRY_TIMEOUT_MS }).then(
    () => true,
    () => false,
  );
}

/** In the place of an older one, which containers that run keep. */
async function install(from: string, to: string): Promise<void> {
  const copy = `${to}.${process.pid}`;
  await copyFile(from, copy);
  await chmod(copy, 0o755);
  await rename(copy, to);
}

/** True for a 64-bit little-endian ELF program that asks for no interpreter, which is what a dynamic one does. */
async function isStaticElf(path: string): Promise<boolean> {
  try {
    const file = await open(path);
    try {
      const { buffer } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
      if (buffer.readUInt32BE(0) !== 0x7f454c46 || buffer[4] !== 2 || buffer[5] !== 1) return false;
      const [start, size, count] = [
        Number(buffer.readBigUInt64LE(32)),
        buffer.readUInt16LE(54),
        buffer.readUInt16LE(56),
      ];
      for (let index = 0; index < count; index++) {
        if (buffer.readUInt32LE(start + index * size) === PT_INTERP) return false;
      }
      return true;
    } finally {
      await file.close();
    }
  } catch {
    return false;
  }
}
