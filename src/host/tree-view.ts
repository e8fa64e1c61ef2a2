import { closeSync, constants, fstatSync, opendirSync, openSync, readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { asApiError } from "../contract/errors.ts";
import { fileInfo, isLink } from "../contract/file-info.ts";
import type { FileInfo, FileList, FileListRequest } from "../contract/file.ts";
import { trimmed } from "./entry-path.ts";
import { FOLLOW, isOfProc, openBelow, O_PATH, readLinkAt } from "./linux/confined.ts";
import { statusAt, type Status } from "./linux/statx.ts";
import type { Container } from "./runtime.ts";

/**
 * What the scripts of `tree-scripts.ts` say, seen from this machine in a tenth of the time: by directories that are held open below
 * the container's root, so that no name is looked up anywhere else. Undefined is the answer to everything that is not plain to see;
 * the scripts then say what it is.
 */

/** Of directories that hold more, the script keeps less in memory. */
const MAX_NAMES = 100_000;
const MAX_ACCOUNTS_BYTES = 1_048_576;
/** How many files are looked at in one go, and names read, while others wait. */
const FILES_AT_ONCE = 200;
const NAMES_AT_ONCE = 1000;
/** The name of what is open, as seen from itself. */
const ITSELF = Buffer.alloc(0);

export function viewStat(container: Container, path: string): Promise<FileInfo | undefined> {
  return viewed(container, async (root) =>
    opened(root, path, O_PATH | constants.O_NOFOLLOW, (fd) => {
      if (isOfProc(fd)) return undefined;
      const status = statusAt(fd, ITSELF);
      return status && new Teller(root).info(trimmed(path), status, () => readLinkAt(fd, ITSELF));
    }),
  );
}

/** One level of a directory. */
export function viewList(
  container: Container,
  path: string,
  { depth, limit, after }: FileListRequest,
  signal?: AbortSignal,
): Promise<FileList | undefined> {
  if (depth !== 1) return Promise.resolve(undefined);
  const base = trimmed(path) === "/" ? "" : trimmed(path);
  return viewed(container, (root) =>
    opened(root, path, O_PATH | constants.O_DIRECTORY, async (fd) => {
      if (isOfProc(fd)) return undefined;
      const names = await namesIn(fd, signal);
      if (!names) return undefined;
      const paths = names.map((name) => ({ name, path: `${base}/${name.toString()}` }));
      const behind = after === undefined ? paths : paths.filter((one) => one.path > after);
      behind.sort((a, b) => (a.path < b.path ? -1 : 1));
      const teller = new Teller(root);
      const data: FileInfo[] = [];
      // What is gone meanwhile leaves its room to the next: a page that is not the last has a file that the next begins behind.
      for (const [index, { name, path: found }] of behind.entries()) {
        if (data.length === limit) return { data, more: true };
        if (index % FILES_AT_ONCE === FILES_AT_ONCE - 1) await setImmediate();
        const status = statusAt(fd, name);
        if (status) data.push(teller.info(found, status, () => readLinkAt(fd, name)));
      }
      return { data, more: false };
    }),
  );
}

/** What `look` sees; undefined where this machine may not look, or what there is cannot be seen from here. */
async function viewed<T>(container: Container, look: (root: number) => Promise<T | undefined>): Promise<T | undefined> {
  const root = container.seesEveryFile?.() ? container.openRoot?.() : undefined;
  if (root === undefined) return undefined;
  try {
    return await look(root);
  } catch (error) {
    if (asApiError(error)) throw error;
    return undefined;
  } finally {
    closeSync(root);
  }
}

async function opened<T>(root: number, path: string, flags: number, use: (fd: number) => T | Promise<T>): Promise<T> {
  const fd = openBelow(root, path, flags, FOLLOW.likeRoot);
  try {
    return await use(fd);
  } finally {
    closeSync(fd);
  }
}

/** The names in a directory that is open; undefined when they are very many. */
async function namesIn(fd: number, signal?: AbortSignal): Promise<Buffer[] | undefined> {
  // @ts-expect-error Node's types do not know of names as bytes here.
  const directory = opendirSync(`/proc/self/fd/${fd}`, { encoding: "buffer", bufferSize: NAMES_AT_ONCE });
  const names: Buffer[] = [];
  try {
    for (let entry = directory.readSync(); entry; entry = directory.readSync()) {
      if (names.push(entry.name as unknown as Buffer) > MAX_NAMES) return undefined;
      if (names.length % NAMES_AT_ONCE === 0) await setImmediate();
      if (signal?.aborted) return undefined;
    }
  } finally {
    directory.closeSync();
  }
  return names;
}

/** Tells of files what a client gets to know, with the names that users and groups have in the container. */
class Teller {
  readonly #users: Map<string, string>;
  readonly #groups: Map<string, string>;

  constructor(root: number) {
    this.#users = accounts(root, "/etc/passwd", 7);
    this.#groups = accounts(root, "/etc/group", 4);
  }

  info(path: string, { mode, uid, gid, ...status }: Status, readLink: () => Buffer): FileInfo {
    return fileInfo(path, {
      ...status,
      mode,
      owner: this.#users.get(String(uid)) ?? String(uid),
      group: this.#groups.get(String(gid)) ?? String(gid),
      target: isLink(mode) ? readLink().toString() : undefined,
    });
  }
}

/** The names in a file of accounts by their numbers. Throws where it is none that can be read. */
function accounts(root: number, path: string, fields: number): Map<string, string> {
  const names = new Map<string, string>();
  for (const line of readSmall(root, path).split("\n")) {
    const [name, , id, ...rest] = line.split(":");
    if (!name || id === undefined || rest.length !== fields - 3) continue;
    if (/^\d{1,10}$/.test(id) && !names.has(id)) names.set(id, name);
  }
  return names;
}

function readSmall(root: number, path: string): string {
  const fd = openBelow(root, path, O_PATH, FOLLOW.likeRoot);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile() || isOfProc(fd) || stats.size > MAX_ACCOUNTS_BYTES) throw new Error(`${path} cannot be read`);
    const file = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY);
    try {
      // It may grow meanwhile, without an end.
      const content = Buffer.alloc(stats.size);
      return content.toString("utf8", 0, readSync(file, content, 0, content.length, 0));
    } finally {
      closeSync(file);
    }
  } finally {
    closeSync(fd);
  }
}
