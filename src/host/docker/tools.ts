import { chmod, copyFile, mkdir, open, rename } from "node:fs/promises";
import { join, resolve } from "node:path";

/** Where the tools are inside of a container. */
export const TOOLS_MOUNT = "/.sandbar";
export const BUSYBOX = `${TOOLS_MOUNT}/busybox`;

const CANDIDATES = ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox", "/usr/local/bin/busybox"];
const PT_INTERP = 3;

/**
 * Copies the machine's static busybox to `<dataDir>/tools`, to be mounted read-only into containers: it idles in images that
 * hold nothing. Answers the folder, or undefined where there is no static busybox.
 */
export async function prepareTools(dataDir: string): Promise<string | undefined> {
  const folder = resolve(dataDir, "tools");
  for (const candidate of CANDIDATES) {
    if (!(await isStaticElf(candidate))) continue;
    await mkdir(folder, { recursive: true, mode: 0o755 });
    await chmod(folder, 0o755);
    const copy = join(folder, `busybox.${process.pid}`);
    await copyFile(candidate, copy);
    await chmod(copy, 0o755);
    await rename(copy, join(folder, "busybox"));
    return folder;
  }
  return undefined;
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
