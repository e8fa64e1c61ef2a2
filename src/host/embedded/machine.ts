import { isRoot } from "../linux/programs.ts";
import { readFileSync, readlinkSync, lstatSync } from "node:fs";

/** How `unshare` makes a container; the new cgroup namespace hides where the daemon lives. */
export const UNSHARE = [
  "unshare",
  "--mount",
  "--pid",
  "--net",
  "--ipc",
  "--uts",
  "--cgroup",
  "--fork",
  ...(isRoot ? [] : ["--user", "--map-root-user"]),
  "--",
];

/** How `nsenter` gets into some namespaces of a container. */
export function nsenter(pid: number, ...kinds: string[]): string[] {
  return ["nsenter", "--target", String(pid), ...kinds, ...(isRoot ? [] : ["--user", "--preserve-credentials"]), "--"];
}

/** A process of this machine, safe against its number being used again. */
export interface HostProcess {
  pid: number;
  /** Field 22 of /proc/PID/stat. */
  startTime: string;
}

export function parseStat(stat: string): HostProcess & { state: string } {
  const rest = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { pid: Number.parseInt(stat, 10), state: rest[0] ?? "", startTime: rest[19] ?? "" };
}

export function isAlive(process: HostProcess): boolean {
  try {
    const now = parseStat(readFileSync(`/proc/${process.pid}/stat`, "utf8"));
    return now.startTime === process.startTime && now.state !== "Z" && now.state !== "X";
  } catch {
    return false;
  }
}

/** The top of the filesystem that programs live in: real directories and, on merged systems, links into /usr. */
export function programTrees(): { trees: string[]; links: string[] } {
  const trees = ["usr"];
  const links: string[] = [];
  for (const name of ["bin", "sbin", "lib", "lib64", "lib32", "libx32"]) {
    const stat = lstatSync(`/${name}`, { throwIfNoEntry: false });
    if (stat?.isSymbolicLink() === true) links.push(readlinkSync(`/${name}`));
    else if (stat?.isDirectory() === true) trees.push(name);
  }
  return { trees, links };
}
