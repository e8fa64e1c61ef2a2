import { execFile, type ExecFileException } from "node:child_process";
import { readFileSync, readlinkSync, lstatSync } from "node:fs";

/** True when the daemon is the real root; otherwise everything happens in user namespaces. */
export const isRoot = process.getuid?.() === 0;

/** For programs that must act as the root of a user's own namespace. */
export const AS_ROOT: string[] = isRoot ? [] : ["unshare", "--user", "--map-root-user", "--"];

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

/** Runs a program of this machine; rejects with what it said. */
export function run(argv: string[], options: { cwd?: string; timeout?: number } = {}): Promise<string> {
  const [program, ...rest] = argv as [string, ...string[]];
  return new Promise((resolve, reject) => {
    execFile(program, rest, { ...options, env: HOST_ENV }, (error: ExecFileException | null, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (error.code === "ENOENT") reject(new Error(`This machine has no ${program}.`, { cause: error }));
      else reject(new Error(`${argv.slice(0, 8).join(" ")}: ${stderr.trim() || error.message}`, { cause: error }));
    });
  });
}

/** All that the machine's own programs get to know. */
export const HOST_ENV = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8" };

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
