import { existsSync, rmSync, statfsSync, writeFileSync } from "node:fs";

const RESERVE_BYTES = 4 * 1024 * 1024;

/**
 * Room on the disk for the start of a daemon: sandboxes can fill it, and a daemon that cannot write down that it is here
 * could not come back to remove them.
 */
export function releaseReserveIfFull(dataDir: string): void {
  const { bavail, bsize } = statfsSync(dataDir);
  if (bavail * bsize >= RESERVE_BYTES || !existsSync(reservePath(dataDir))) return;
  console.error("sandbar host: the disk is full; it starts with the room that was set aside for that");
  rmSync(reservePath(dataDir));
}

/** Sets it aside again, where there is room. */
export function keepReserve(dataDir: string): void {
  const path = reservePath(dataDir);
  if (existsSync(path)) return;
  try {
    writeFileSync(path, Buffer.alloc(RESERVE_BYTES), { mode: 0o600 });
  } catch {
    rmSync(path, { force: true });
  }
}

const reservePath = (dataDir: string) => `${dataDir}/reserve`;
