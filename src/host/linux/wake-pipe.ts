import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { makeFifo } from "./libc.ts";

/** A pipe by which one thread wakes another that waits in the kernel. Both ends are the caller's to close. */
export function openWakePipe(): { readEnd: number; writeEnd: number } {
  const dir = mkdtempSync(`${tmpdir()}/sandbar-wake-`);
  try {
    makeFifo(`${dir}/wake`);
    const readEnd = openSync(`${dir}/wake`, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return { readEnd, writeEnd: openSync(`${dir}/wake`, constants.O_WRONLY) };
    } catch (error) {
      closeSync(readEnd);
      throw error;
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
}
