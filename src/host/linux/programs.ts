import { execFile, type ExecFileException } from "node:child_process";

/** True when the daemon is the real root; otherwise everything happens in user namespaces. */
export const isRoot = process.getuid?.() === 0;

/** For programs that must act as the root of a user's own namespace. */
export const AS_ROOT: string[] = isRoot ? [] : ["unshare", "--user", "--map-root-user", "--"];

/** All that the machine's own programs get to know. */
export const HOST_ENV = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8" };

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
