import { statfsSync } from "node:fs";
import { dirname } from "node:path";

const DEFAULT_BYTES = 10 * 1024 ** 3;
/** No more of the disk than one in so many. */
const DISK_SHARE = 10;

/** How much of chunks a machine keeps where nobody says. */
export function cacheBytesFor(dir: string): number {
  const { blocks, bsize } = statfsSync(dirname(dir));
  return Math.min(DEFAULT_BYTES, Math.floor((blocks * bsize) / DISK_SHARE));
}
