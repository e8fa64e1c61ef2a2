import { closeSync, constants, fstatSync, readlinkSync, type Stats } from "node:fs";
import { dirname, posix } from "node:path";
import { ApiError } from "../../contract/errors.ts";
import { fileError, FOLLOW, O_PATH, openBelow, openInRoot } from "../linux/confined.ts";

/** How often a path is looked up again that is moved meanwhile. */
const ATTEMPTS = 20;

/** Where a path of a sandbox leads, once all links are followed. Names are latin1, byte for byte, relative to the root. */
export interface Place {
  isDirectory: boolean;
  /** Empty of the root. */
  path: string;
  /** The directory that holds it; undefined of the root. */
  parent: string | undefined;
  /** Its name there. */
  name: string;
}

/** Throws the file errors. */
export function findPlace(root: number, path: string): Place {
  for (let attempt = 1; ; attempt++) {
    const fd = openInRoot(root, path, O_PATH);
    try {
      const found = relative(pathOf(root), pathOf(fd));
      const stats = fstatSync(fd);
      const place = {
        isDirectory: stats.isDirectory(),
        path: found,
        parent: found === "" ? undefined : found.includes("/") ? dirname(found) : "",
        name: posix.basename(found),
      };
      if (isAt(root, place, stats)) return place;
    } finally {
      closeSync(fd);
    }
    if (attempt === ATTEMPTS) throw new ApiError("file_not_found", { detail: "The path keeps being moved." });
  }
}

/** Whether this is (still) to be found there. */
export function isAt(root: number, place: Pick<Place, "path">, { dev, ino }: Pick<Stats, "dev" | "ino">): boolean {
  try {
    return withPlace(root, place.path, 0, (fd) => {
      const stats = fstatSync(fd);
      return stats.dev === dev && stats.ino === ino;
    });
  } catch {
    return false;
  }
}

/** Opens a directory by names that are no links. Throws the file errors. */
export function withDirectory<T>(root: number, path: string, use: (fd: number) => T): T {
  return withPlace(root, path, constants.O_DIRECTORY, use);
}

export function withPlace<T>(root: number, path: string, flags: number, use: (fd: number) => T): T {
  let fd: number;
  try {
    fd = openBelow(root, Buffer.from(path || ".", "latin1"), O_PATH | constants.O_NOFOLLOW | flags, FOLLOW.noLinks);
  } catch (error) {
    throw fileError(error);
  }
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

/** As the kernel names what is open; what it says is looked up again before it is believed. */
function pathOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`, { encoding: "latin1" });
}

function relative(root: string, path: string): string {
  const below = root === "/" || !`${path}/`.startsWith(`${root}/`) ? path : path.slice(root.length);
  return below.replace(/^\/+/, "");
}
