import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";

export const isRoot = process.getuid?.() === 0;

/** Why this command fails; undefined where it does not. */
export function failureOf(program: string, ...args: string[]): string | undefined {
  try {
    execFileSync(program, args, { stdio: "pipe" });
    return undefined;
  } catch (error) {
    return String(error);
  }
}

/** The same of one that only root may give. */
export const failureAsRoot = (program: string, ...args: string[]) =>
  isRoot ? failureOf(program, ...args) : "only root can";

/** Mounts a filesystem of 1 MiB at a directory, which it makes; answers why it cannot. */
export function mountSmall(path: string): string | undefined {
  mkdirSync(path);
  return failureAsRoot("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path);
}
