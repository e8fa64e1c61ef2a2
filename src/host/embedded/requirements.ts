import { accessSync, constants } from "node:fs";
import { mkdir } from "node:fs/promises";
import { AS_ROOT, HOST_ENV, isRoot, run } from "../linux/programs.ts";
import { UNSHARE } from "./machine.ts";

const PROGRAMS = [
  "unshare",
  "nsenter",
  "setpriv",
  "mount",
  "umount",
  "pivot_root",
  "chroot",
  "setsid",
  "prlimit",
  "mkfifo",
  "cp",
  "ln",
  "du",
  "rm",
];
const LOOPBACK_PROGRAMS = ["ip", "ifconfig", "busybox"];
/** A Unix socket lies in there, and the kernel takes no path longer than 107 bytes. */
const MAX_DATA_DIR_BYTES = 55;

/** Throws when no container can be made on this machine; the message names what is missing. */
export async function checkMachine(dataDir: string): Promise<void> {
  if (process.platform !== "linux") throw new Error(`The embedded runtime needs Linux; this is ${process.platform}.`);
  // The path becomes part of mount options, which have no quotes.
  if (!/^[A-Za-z0-9/._-]+$/.test(dataDir))
    throw new Error(`The data directory ${dataDir} has characters other than A-Z a-z 0-9 / . _ -`);
  if (dataDir.length > MAX_DATA_DIR_BYTES)
    throw new Error(`The data directory ${dataDir} is longer than ${MAX_DATA_DIR_BYTES} characters.`);
  const missing = PROGRAMS.filter((name) => !onPath(name));
  if (missing.length > 0)
    throw new Error(
      `This machine has no ${missing.join(", ")}, which the embedded runtime needs (util-linux, coreutils).`,
    );
  if (!LOOPBACK_PROGRAMS.some(onPath))
    throw new Error("This machine has none of ip, ifconfig and busybox, to set up a sandbox's loopback.");
  await attempt(
    [...UNSHARE, "true"],
    isRoot ? "This machine forbids new namespaces" : "This machine forbids user namespaces to ordinary users",
  );
  await attempt(
    [...UNSHARE, "mount", "-t", "proc", "proc", "/proc"],
    "This machine forbids a /proc of one's own (is this a container itself?)",
  );
  await checkOverlay(dataDir);
}

async function checkOverlay(dataDir: string): Promise<void> {
  const dir = `${dataDir}/trash/overlay.${process.pid}`;
  for (const name of ["upper", "work", "root"]) await mkdir(`${dir}/${name}`, { recursive: true });
  const options = `lowerdir=/usr,upperdir=${dir}/upper,workdir=${dir}/work,${isRoot ? "index=off" : "userxattr"}`;
  try {
    // A file that is only deleted shows whether the filesystem takes the marks that overlays need.
    const script = 'mount -t overlay overlay -o "$1" "$0" && mkdir "$0/.sandbar-probe" && rmdir "$0/.sandbar-probe"';
    await attempt(
      [...UNSHARE, "sh", "-c", script, `${dir}/root`, options],
      `An overlay cannot be kept in ${dataDir}; choose a data directory on a disk or tmpfs`,
    );
  } finally {
    await run([...AS_ROOT, "rm", "-rf", "--", dir]);
  }
}

async function attempt(argv: string[], reason: string): Promise<void> {
  await run(argv, { timeout: 20_000 }).catch((error: Error) => {
    throw new Error(`${reason}: ${error.message}`, { cause: error });
  });
}

function onPath(name: string): boolean {
  return HOST_ENV.PATH.split(":").some((entry) => {
    try {
      accessSync(`${entry}/${name}`, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
